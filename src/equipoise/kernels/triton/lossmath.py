"""exp, log1p and reciprocals of float32 in few instructions, right for NaN and infinity.

In bf16 a loss reads so little that the instructions, not the memory, would be what it waits for: a logarithm of the
library alone is some twenty of them. Multiplications are joined to additions by hand (`fma`): whether the compiler does
so depends on the version of Triton, and in the kernels that count and then weigh it must do the same in both.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LARGEST = tl.constexpr(3.4028234663852886e38)  # a larger constant would be a float64
INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def exp_of_minus(a):
    """exp(-a) for a >= 0, infinity or NaN: one instruction of the special function unit."""
    return tl.exp2(a * -LOG2_E)


@triton.jit
def reciprocal(x):
    """1 / x for a normal number x, to the last bit but one: one instruction, where a division takes eight."""
    if INTERPRETED:
        return 1.0 / x
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def log1p_of_unit(e):
    """log(1 + e) for e in [0, 1]: the polynomial of csrc/lossmath.h, error 3e-8."""
    p = tl.fma(e, 0.005232691299170256, -0.029505226761102676)
    p = tl.fma(p, e, 0.07822593301534653)
    p = tl.fma(p, e, -0.13663244247436523)
    p = tl.fma(p, e, 0.19106006622314453)
    p = tl.fma(p, e, -0.2484298199415207)
    p = tl.fma(p, e, 0.3331909775733948)
    p = tl.fma(p, e, -0.4999949336051941)
    p = tl.fma(p, e, 0.9999999403953552)
    return p * e


@triton.jit
def zero_wins(factor, quantity):
    """The product of a factor that may be 0 and a quantity >= 0 that may be infinite, but only then."""
    return factor * tl.minimum(quantity, LARGEST)
