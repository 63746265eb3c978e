/* A libnvidia-ml.so.1 for tests, driven by the environment variable STUB_NVML:
   two   two GPUs, the second used by process 4242 and one whose name may not be read
   lost  two GPUs, of which the first has fallen off the bus
   mig   one GPU in MIG mode with two instances, in places 0 and 2
   none  a driver without a GPU
   old   a driver that does not match the library */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       GPU_IS_LOST = 15, VERSION_MISMATCH = 18 };

typedef struct { const char *uuid, *name; unsigned long long total, free; } device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;

static device gpus[] = {
    {"GPU-11111111-aaaa", "NVIDIA RTX 4090", 25757220864ULL, 25000000000ULL},
    {"GPU-22222222-bbbb", "NVIDIA A100-SXM4-80GB", 85899345920ULL, 40000000000ULL},
};
static device instances[] = {
    {"MIG-33333333-cccc", "NVIDIA A100-SXM4-80GB MIG 3g.40gb", 42949672960ULL, 42000000000ULL},
    {"MIG-44444444-dddd", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10737418240ULL, 10000000000ULL},
};

static int is(const char *mode) {
    const char *given = getenv("STUB_NVML");
    return given != NULL && strcmp(given, mode) == 0;
}

int nvmlInitWithFlags(unsigned flags) { return is("old") ? VERSION_MISMATCH : SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) {
    return code == VERSION_MISMATCH ? "Driver/library version mismatch" : code == GPU_IS_LOST ? "GPU is lost" : "other";
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "575.57.08");
    return SUCCESS;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = is("none") ? 0 : is("mig") ? 1 : 2;
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **handle) {
    if (index > 1) return INVALID_ARGUMENT;
    *handle = &gpus[is("mig") ? 1 : index];
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, device **handle) {
    for (int i = 0; i < 2; i++)
        if (strcmp(uuid, instances[i].uuid) == 0) {
            *handle = &instances[i];
            return SUCCESS;
        }
    return NOT_FOUND;
}
int nvmlDeviceGetMemoryInfo(device *handle, memory *out) {
    if (is("lost") && handle == &gpus[0]) return GPU_IS_LOST;
    *out = (memory){handle->total, handle->free, handle->total - handle->free};
    return SUCCESS;
}
int nvmlDeviceGetName(device *handle, char *text, unsigned size) {
    snprintf(text, size, "%s", handle->name);
    return SUCCESS;
}
int nvmlDeviceGetUUID(device *handle, char *text, unsigned size) {
    snprintf(text, size, "%s", handle->uuid);
    return SUCCESS;
}
int nvmlDeviceGetMigMode(device *handle, unsigned *current, unsigned *pending) {
    if (handle == &gpus[0]) return NOT_SUPPORTED;
    *current = *pending = is("mig");
    return SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(device *handle, unsigned *count) {
    *count = 7;
    return SUCCESS;
}
int nvmlDeviceGetMigDeviceHandleByIndex(device *handle, unsigned place, device **instance) {
    if (place != 0 && place != 2) return NOT_FOUND;
    *instance = &instances[place / 2];
    return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(device *handle, unsigned *count, process *out) {
    unsigned running = is("two") && handle == &gpus[1] ? 3 : 0;
    if (running > 0 && *count < running) {
        *count = running;
        return INSUFFICIENT_SIZE;
    }
    *count = running;
    const char *own = getenv("STUB_OWN_PID");
    for (unsigned i = 0; i < running; i++)
        out[i] = (process){i == 0 ? 4242 : i == 1 ? 4343 : (unsigned)atoi(own ? own : "0"), i == 1 ? ~0ULL : 1000000000ULL, 0, 0};
    return SUCCESS;
}
int nvmlSystemGetProcessName(unsigned pid, char *text, unsigned size) {
    if (pid == 4343) return NO_PERMISSION;
    snprintf(text, size, "/usr/bin/python3");
    return SUCCESS;
}
