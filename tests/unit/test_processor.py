"""What the processor can do, from what the system says of it."""

import pytest
from grokphase import processor


@pytest.mark.parametrize(
    ("text", "has_products"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16 avx512vl\n", True),
        ("flags : fpu avx2 avx512f avx512_bf16_not\nmodel name : bf16x\n", False),
        ("Features : fp asimd bf16 i8mm\n", True),
        ("flags : fpu amx_bf16\n", True),
        (None, False),
    ],
)
def test_products_in_bfloat16_are_found_in_the_flags(monkeypatch, tmp_path, text, has_products):
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(processor, "CPU_INFORMATION", file)
    assert processor.multiplies_bfloat16.__wrapped__() is has_products
