"""Dequantization without the slow conversion instruction: a byte becomes the mantissa of a float."""

import triton
import triton.language as tl
from triton import knobs

__all__ = ["dequantize_int4", "dequantize_int8"]

_INTERPRETED = tl.constexpr(knobs.runtime.interpret)
_INT8 = tl.constexpr("""
{
    .reg .b32 biased;
    xor.b32 biased, $4, 0x80808080;
    prmt.b32 $0, biased, 0x4B000000, 0x7440;
    prmt.b32 $1, biased, 0x4B000000, 0x7441;
    prmt.b32 $2, biased, 0x4B000000, 0x7442;
    prmt.b32 $3, biased, 0x4B000000, 0x7443;
    sub.f32 $0, $0, 0f4B000080;
    sub.f32 $1, $1, 0f4B000080;
    sub.f32 $2, $2, 0f4B000080;
    sub.f32 $3, $3, 0f4B000080;
}
""")
_INT4 = tl.constexpr("""
{
    .reg .b32 low, high;
    and.b32 low, $8, 0x0F0F0F0F;
    shr.u32 high, $8, 4;
    and.b32 high, high, 0x0F0F0F0F;
    prmt.b32 $0, low, 0x4B000000, 0x7440;
    prmt.b32 $1, low, 0x4B000000, 0x7441;
    prmt.b32 $2, low, 0x4B000000, 0x7442;
    prmt.b32 $3, low, 0x4B000000, 0x7443;
    prmt.b32 $4, high, 0x4B000000, 0x7440;
    prmt.b32 $5, high, 0x4B000000, 0x7441;
    prmt.b32 $6, high, 0x4B000000, 0x7442;
    prmt.b32 $7, high, 0x4B000000, 0x7443;
    sub.f32 $0, $0, 0f4B000008;
    sub.f32 $1, $1, 0f4B000008;
    sub.f32 $2, $2, 0f4B000008;
    sub.f32 $3, $3, 0f4B000008;
    sub.f32 $4, $4, 0f4B000008;
    sub.f32 $5, $5, 0f4B000008;
    sub.f32 $6, $6, 0f4B000008;
    sub.f32 $7, $7, 0f4B000008;
}
""")


@triton.jit
def dequantize_int8(x):
    """Return int8 as float32."""
    if _INTERPRETED:
        return x.to(tl.float32)
    return tl.inline_asm_elementwise(_INT8, "=r,=r,=r,=r,r", [x], dtype=tl.float32, is_pure=True, pack=4)


@triton.jit
def dequantize_int4(x):
    """Return the low and the high halves of bytes, less 8, as float32 each."""
    if _INTERPRETED:
        byte = x.to(tl.int32)
        return ((byte & 15) - 8).to(tl.float32), ((byte >> 4) - 8).to(tl.float32)
    return tl.inline_asm_elementwise(
        _INT4, "=r,=r,=r,=r,=r,=r,=r,=r,r", [x], dtype=(tl.float32, tl.float32), is_pure=True, pack=4
    )
