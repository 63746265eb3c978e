import pytest

from knowledge.errors import BadInput
from knowledge.gpus import MEMORY_MIB, MIB, find_gpu, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24_000_000_000),
        ("24 gb", 24_000_000_000),
        ("9GiB", 9 * 2**30),
        ("22.5GiB", 24_159_191_040),
        ("500M", 500_000_000),
        ("512MiB", 512 * 2**20),
        ("1024B", 1024),
        ("1,5GB", 1_500_000_000),
    ],
)
def test_gb_is_decimal_and_gib_binary(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "0GB", "24 potatoes", "24", "4ib", "1e9", "24,576MB"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(BadInput, match="24GB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("RTX 4090", "NVIDIA GeForce RTX 4090"),
        ("rtx4090", "NVIDIA GeForce RTX 4090"),
        ("4090", "NVIDIA GeForce RTX 4090"),
        ("RTX4070Ti", "NVIDIA GeForce RTX 4070 Ti"),
        ("RTX 4070", "NVIDIA GeForce RTX 4070"),
        ("L4", "NVIDIA L4"),
        ("l40s", "NVIDIA L40S"),
        ("a100", "NVIDIA A100 40GB"),
        ("A100 80 GB", "NVIDIA A100 80GB"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB"),
        ("Tesla T4", "NVIDIA T4"),
        ("T4 16GB", "NVIDIA T4"),
        ("Tesla V100-SXM2-32GB", "NVIDIA V100 32GB"),
        ("H200 141GB HBM3e", "NVIDIA H200"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "NVIDIA RTX PRO 6000 Blackwell"),
        ("H200 141GB", "NVIDIA H200"),
        ("H200", "NVIDIA H200"),
        ("H200 NVL", "NVIDIA H200 NVL"),
        ("H200 NVL 141GB", "NVIDIA H200 NVL"),
        ("GH200", "NVIDIA GH200 96GB"),
        ("A100-80G", "NVIDIA A100 80GB"),
        ("RTX 4070 Super", "NVIDIA GeForce RTX 4070 SUPER"),
        ("RTX 5060", "NVIDIA GeForce RTX 5060"),
        ("RTX 4060 Ti", "NVIDIA GeForce RTX 4060 Ti 8GB"),
    ],
)
def test_a_card_is_found_by_what_people_call_it(asked, meant):
    assert find_gpu(asked).name == meant
    assert find_gpu(asked).memory_bytes == MEMORY_MIB[meant] * MIB


@pytest.mark.parametrize(
    ("name", "offered_gib"),  # by PyTorch's messages, see Gpu.driver_bytes
    [("RTX 3080", 9.78), ("RTX 3090", 23.70), ("RTX 4090", 23.64), ("A30", 23.53), ("RTX 5090", 31.37), ("L40", 44.40),
     ("H100", 79.11)],
)  # fmt: skip
def test_what_cuda_offers_of_a_card_is_known_from_below_and_nearly(name, offered_gib):
    card = find_gpu(name)
    expected_gib = (card.memory_bytes - card.driver_bytes) / 2**30
    assert 0 <= offered_gib - expected_gib <= 0.45


@pytest.mark.parametrize("name", MEMORY_MIB)
def test_every_card_is_found_by_its_own_name(name):
    assert find_gpu(name).name == name


@pytest.mark.parametrize(
    "unknown",
    [
        "",
        "GPU",
        "RTX 9999",
        "toaster",
        "24GB",
        "T4 24GB",
        "GTX 1080",
        "RTX 2080",
        "RTX 5000",
        "RTX 6000",
        "RX 7900",
        "A10 80GB",
    ],
)
def test_an_unknown_card_is_no_guess(unknown):
    with pytest.raises(BadInput, match="--vram"):
        find_gpu(unknown)


@pytest.mark.parametrize(
    ("asked", "near"), [("B300", "B200"), ("4070 TI SUPR", "RTX 4070 Ti SUPER"), ("mi300", "MI300X"), ("h800", "H200")]
)
def test_an_unknown_card_is_told_the_nearest_ones(asked, near):
    with pytest.raises(BadInput, match=f"Did you mean .*'{near}") as refused:
        find_gpu(asked)
    assert len(str(refused.value)) < 200
    assert near in find_gpu(near).name
