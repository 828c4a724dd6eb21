// Reading and writing tensors of any dtype, broadcast or not, in blocks of the computing type T.
#pragma once
#include "interface.h"
#include "lossmath.h"

namespace EQUIPOISE_LEVEL {

constexpr int64_t BLOCK = 512;  // elements that are computed at a time: all buffers of a kernel fit the first-level cache

struct BFloat16 { uint16_t bits; };
struct Float16 { uint16_t bits; };

EQUIPOISE_INLINE float widen(BFloat16 x) { return from_bits(int32_t(uint32_t(x.bits) << 16)); }

EQUIPOISE_INLINE float widen(Float16 x) {
    uint32_t sign = uint32_t(x.bits & 0x8000) << 16, rest = uint32_t(x.bits & 0x7fff) << 13;
    // the exponent's bias grows from 15 to 127 by a multiplication, which is right for subnormal numbers too
    float scaled = from_bits(int32_t(rest)) * from_bits(int32_t(0x77800000));  // 2^112
    uint32_t special = rest >= 0x0f800000 ? 0x7f800000 : 0;                    // infinity and NaN
    return from_bits(int32_t(uint32_t(to_bits(scaled)) | special | sign));
}

template <class D> EQUIPOISE_INLINE D widen(D x) { return x; }

EQUIPOISE_INLINE void narrow(float x, BFloat16* out) {
    uint32_t bits = uint32_t(to_bits(x));
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
    out->bits = uint16_t(x == x ? rounded : 0x7fc0);
}

EQUIPOISE_INLINE void narrow(float x, Float16* out) {
    uint32_t bits = uint32_t(to_bits(x)), sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
    uint32_t normal = (size + 0xfff + ((size >> 13) & 1) - (112u << 23)) >> 13;  // to nearest, ties to even
    // 0.5 + size: the sum's last bits count half precision's smallest step, 2^-24, rounded in the same way
    uint32_t subnormal = uint32_t(to_bits(from_bits(int32_t(size)) + 0.5f)) - 0x3f000000;
    uint32_t result = size < 0x38800000 ? subnormal : normal;
    result = size >= 0x477ff000 ? 0x7c00 : result;
    out->bits = uint16_t(sign | (size > 0x7f800000 ? 0x7e00 : result));
}

EQUIPOISE_INLINE void narrow(float x, float* out) { *out = x; }
EQUIPOISE_INLINE void narrow(double x, double* out) { *out = x; }

template <class T, class D> static void widen_run(const D* from, int64_t n, T* to) {
    for (int64_t i = 0; i < n; i++) to[i] = T(widen(from[i]));
}

template <class T, class D>
static void widen_operand(const equipoise_operand& operand, int64_t begin, int64_t n, T* to) {
    const D* data = static_cast<const D*>(operand.data);
    int64_t i = 0;
    while (i < n) {  // one run of neighbours, or of one repeated element, after the other
        int64_t group = (begin + i) / operand.inner, at = group % operand.count;
        int64_t run = operand.inner == 1 ? operand.count - at : (group + 1) * operand.inner - (begin + i);
        if (run > n - i) run = n - i;
        if (operand.inner == 1) {
            widen_run(data + at, run, to + i);
        } else {
            T value = T(widen(data[at]));
            for (int64_t j = 0; j < run; j++) to[i + j] = value;
        }
        i += run;
    }
}

// Elements [begin, begin + n) of an operand: in place where they have type T and lie side by side, else in `buffer`.
template <class T> static const T* read(const equipoise_operand& operand, int64_t begin, int64_t n, T* buffer) {
    constexpr int64_t own = sizeof(T) == 8 ? EQUIPOISE_FLOAT64 : EQUIPOISE_FLOAT32;
    if (operand.dtype == own && operand.inner == 1 && begin + n <= operand.count)
        return static_cast<const T*>(operand.data) + begin;
    switch (operand.dtype) {
        case EQUIPOISE_FLOAT32: widen_operand<T, float>(operand, begin, n, buffer); break;
        case EQUIPOISE_FLOAT64: widen_operand<T, double>(operand, begin, n, buffer); break;
        case EQUIPOISE_BFLOAT16: widen_operand<T, BFloat16>(operand, begin, n, buffer); break;
        case EQUIPOISE_FLOAT16: widen_operand<T, Float16>(operand, begin, n, buffer); break;
        case EQUIPOISE_UINT8: widen_operand<T, uint8_t>(operand, begin, n, buffer); break;
        case EQUIPOISE_INT8: widen_operand<T, int8_t>(operand, begin, n, buffer); break;
        case EQUIPOISE_INT16: widen_operand<T, int16_t>(operand, begin, n, buffer); break;
        case EQUIPOISE_INT32: widen_operand<T, int32_t>(operand, begin, n, buffer); break;
        default: widen_operand<T, int64_t>(operand, begin, n, buffer); break;
    }
    return buffer;
}

// `read`, or the constant where the operand is absent.
template <class T>
static const T* read_or(const equipoise_operand& operand, T constant, int64_t begin, int64_t n, T* buffer) {
    if (operand.data) return read(operand, begin, n, buffer);
    for (int64_t i = 0; i < n; i++) buffer[i] = constant;
    return buffer;
}

// A contiguous tensor to be written: where it has type T `place` is the tensor itself, and `write` does nothing.
template <class T> struct Output {
    void* data;
    int64_t dtype;

    bool direct() const { return dtype == (sizeof(T) == 8 ? EQUIPOISE_FLOAT64 : EQUIPOISE_FLOAT32); }

    T* place(int64_t begin, T* buffer) const { return direct() ? static_cast<T*>(data) + begin : buffer; }

    void write(int64_t begin, int64_t n, const T* from) const {
        if (direct()) return;
        if (dtype == EQUIPOISE_BFLOAT16) {
            BFloat16* to = static_cast<BFloat16*>(data) + begin;
            for (int64_t i = 0; i < n; i++) narrow(float(from[i]), to + i);
        } else {
            Float16* to = static_cast<Float16*>(data) + begin;
            for (int64_t i = 0; i < n; i++) narrow(float(from[i]), to + i);
        }
    }
};

// The input as an operand.
EQUIPOISE_INLINE equipoise_operand input_of(const equipoise_common& call) {
    return {call.input, call.dtype, 1, call.size};
}

}  // namespace EQUIPOISE_LEVEL
