"""Which intervals are told everywhere: those that hold the truth in four of five cases."""

COVERAGE = 0.8
Z_80 = 1.28  # half-width of the central 80 % of a normal distribution, in standard deviations
# The same for Student's t distribution, from one degree of freedom on: of few values their spread tells little.
STUDENT_80 = (3.08, 1.89, 1.64, 1.53, 1.48, 1.44, 1.41, 1.40, 1.38, 1.37)
# Share of its peak that the dry run of a published run is off by at most in four of five cases: 62 runs of 37 methods
# on one GPU. By the errors of the other methods each is held in 79 % (python -m tests.benchmarks.memory).
DRY_RUN_ERROR = 0.0022


def student_80(degrees_of_freedom: int) -> float:
    """The 80 % half-width in standard deviations that were estimated from degrees_of_freedom + 1 values. Beyond the
    table by the first term of its expansion (Abramowitz and Stegun, 26.7.5), which is off by less than .01 there."""
    if degrees_of_freedom <= len(STUDENT_80):
        return STUDENT_80[degrees_of_freedom - 1]
    return Z_80 + (Z_80**3 + Z_80) / (4 * degrees_of_freedom)
