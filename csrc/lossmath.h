// exp, log1p and log without libm, for float and double: branch-free, so that the compiler can vectorise them, and right
// for NaN and infinity without -ffast-math.
//
// Every file that is compiled once per instruction level puts everything into the namespace EQUIPOISE_LEVEL: were two
// levels to share an inline function, the linker would keep one of them, and an old CPU might run new instructions.
#pragma once
#include <stdint.h>
#include <string.h>

#define EQUIPOISE_INLINE static inline __attribute__((always_inline))

namespace EQUIPOISE_LEVEL {

EQUIPOISE_INLINE float from_bits(int32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
EQUIPOISE_INLINE double from_bits(int64_t bits) { double x; memcpy(&x, &bits, 8); return x; }
EQUIPOISE_INLINE float magnitude(float x) { return __builtin_fabsf(x); }
EQUIPOISE_INLINE double magnitude(double x) { return __builtin_fabs(x); }
EQUIPOISE_INLINE int32_t to_bits(float x) { int32_t bits; memcpy(&bits, &x, 4); return bits; }
EQUIPOISE_INLINE int64_t to_bits(double x) { int64_t bits; memcpy(&bits, &x, 8); return bits; }

template <class T> struct Format;

template <> struct Format<float> {
    using Bits = int32_t;
    static constexpr int mantissa = 23, bias = 127;
    static constexpr float round_to_whole = 12582912.0f;         // 1.5 * 2^23: adding it leaves a whole number
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr float vanishes = 86.9f;                     // beyond, exp(-a) may be no normal number
    static constexpr Bits sqrt_half = 0x3f3504f3;
    static constexpr float largest = 3.40282347e+38f, smallest_normal = 1.17549435e-38f, lift = 16777216.0f;  // 2^24
    static constexpr int lift_exponent = 24;
};

template <> struct Format<double> {
    using Bits = int64_t;
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr double round_to_whole = 6755399441055744.0; // 1.5 * 2^52
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr double vanishes = 707.9;
    static constexpr Bits sqrt_half = 0x3fe6a09e667f3bcdLL;
    static constexpr double largest = 1.7976931348623157e+308, smallest_normal = 2.2250738585072014e-308, lift = 18014398509481984.0;  // 2^54
    static constexpr int lift_exponent = 54;
};

// A number's place among the bits of the exponent. Without signs: to shift a negative number is undefined.
EQUIPOISE_INLINE int32_t exponent(int32_t power) { return int32_t(uint32_t(power) << Format<float>::mantissa); }
EQUIPOISE_INLINE int64_t exponent(int64_t power) { return int64_t(uint64_t(power) << Format<double>::mantissa); }

// (exp(r) - 1 - r) / r^2 for |r| <= ln(2)/2
EQUIPOISE_INLINE float exp_tail(float r) {  // Chebyshev fit, error of exp 8e-9
    float p = 0.0013933650354163683f;
    p = p * r + 0.008363180121708723f;
    p = p * r + 0.04166646491457964f;
    p = p * r + 0.1666657697579496f;
    return p * r + 0.5000000013468379f;
}
EQUIPOISE_INLINE double exp_tail(double r) {  // Taylor series
    double p = 1.0 / 87178291200.0;
    p = p * r + 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    return p * r + 0.5;
}

// (atanh(s)/s - 1) / s^2 as a function of w = s^2 <= 1/9
EQUIPOISE_INLINE float atanh_tail(float w) {  // Chebyshev fit, error of atanh 4e-10
    float p = 0.11619525265923153f;
    p = p * w + 0.1085165750457532f;
    p = p * w + 0.14296291707199915f;
    p = p * w + 0.1999985067814744f;
    return p * w + 0.333333336688068f;
}
EQUIPOISE_INLINE double atanh_tail(double w) {  // Taylor series
    double p = 1.0 / 37;
    p = p * w + 1.0 / 35;
    p = p * w + 1.0 / 33;
    p = p * w + 1.0 / 31;
    p = p * w + 1.0 / 29;
    p = p * w + 1.0 / 27;
    p = p * w + 1.0 / 25;
    p = p * w + 1.0 / 23;
    p = p * w + 1.0 / 21;
    p = p * w + 1.0 / 19;
    p = p * w + 1.0 / 17;
    p = p * w + 1.0 / 15;
    p = p * w + 1.0 / 13;
    p = p * w + 1.0 / 11;
    p = p * w + 1.0 / 9;
    p = p * w + 1.0 / 7;
    p = p * w + 1.0 / 5;
    return p * w + 1.0 / 3;
}

// 2 * atanh(s)
template <class T> EQUIPOISE_INLINE T twice_atanh(T s) {
    T w = s * s;
    return 2 * (s + s * w * atanh_tail(w));
}

// exp(-a) for a >= 0 or NaN (and for the little below 0 that rounding makes); 0 where it is below the normal numbers.
template <class T> EQUIPOISE_INLINE T exp_of_minus(T a) {
    using F = Format<T>;
    using Bits = typename F::Bits;
    bool vanishes = a > F::vanishes;  // false for NaN, which goes through
    T x = vanishes ? -F::vanishes : -a;
    T shifted = x * T(1.44269504088896340736) + F::round_to_whole;
    Bits power = to_bits(shifted) - to_bits(F::round_to_whole);
    T whole = shifted - F::round_to_whole;
    T r = (x - whole * F::ln2_high) - whole * F::ln2_low;
    T result = (exp_tail(r) * r) * r + r + 1;
    result *= from_bits(exponent(Bits(power + F::bias)));
    return vanishes ? T(0) : result;
}

// log(1 + e) for e in [0, 1], with full relative accuracy
EQUIPOISE_INLINE float log1p_of_unit(float e) {  // minimax polynomial of log1p(e) / e, error 3e-8; no division
    float p = 0.005232691299170256f;
    p = p * e - 0.029505226761102676f;
    p = p * e + 0.07822593301534653f;
    p = p * e - 0.13663244247436523f;
    p = p * e + 0.19106006622314453f;
    p = p * e - 0.2484298199415207f;
    p = p * e + 0.3331909775733948f;
    p = p * e - 0.4999949336051941f;
    p = p * e + 0.9999999403953552f;
    return p * e;
}
EQUIPOISE_INLINE double log1p_of_unit(double e) { return twice_atanh(e / (2 + e)); }

// log(x) for x > 0 and finite, numbers below the smallest normal one included; NaN for NaN
template <class T> EQUIPOISE_INLINE T log_of_positive(T x) {
    using F = Format<T>;
    using Bits = typename F::Bits;
    bool tiny = x < F::smallest_normal;
    T lifted = tiny ? x * F::lift : x;
    Bits bits = to_bits(lifted);
    Bits power = (bits - F::sqrt_half) >> F::mantissa;
    T m = from_bits(Bits(bits - exponent(power)));  // in [sqrt(1/2), sqrt(2))
    T k = T(power - (tiny ? F::lift_exponent : 0));
    T log_m = twice_atanh((m - 1) / (m + 1));
    T result = k * F::ln2_high + (log_m + k * F::ln2_low);
    return x == x ? result : x;
}

}  // namespace EQUIPOISE_LEVEL
