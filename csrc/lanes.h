// Vectors by hand, for the two things that compilers do not vectorise well without -ffast-math: the largest or smallest
// of a row, and sums of rows that are no multiple of a vector long. (GCC's and Clang's vector extensions, which know any CPU.)
#pragma once
#include "lossmath.h"

#include <math.h>

namespace EQUIPOISE_LEVEL {

#if defined(__AVX512F__)
constexpr int VECTOR = 64;  // bytes
#elif defined(__AVX__)
constexpr int VECTOR = 32;
#else
constexpr int VECTOR = 16;
#endif

template <class T> struct Lanes {
    static constexpr int64_t count = VECTOR / sizeof(T);
    typedef T Vector __attribute__((vector_size(VECTOR)));
};

template <class T> EQUIPOISE_INLINE void load(const T* from, typename Lanes<T>::Vector* to) { memcpy(to, from, VECTOR); }

// All lanes of a vector combined, half of them with the other half.
template <class T, class Combine>
EQUIPOISE_INLINE T across(const typename Lanes<T>::Vector* each, Combine combine) {
    T lanes[Lanes<T>::count];
    memcpy(lanes, each, VECTOR);
    for (int64_t half = Lanes<T>::count / 2; half > 0; half /= 2)
        for (int64_t lane = 0; lane < half; lane++) lanes[lane] = combine(lanes[lane], lanes[lane + half]);
    return lanes[0];
}

// The largest of n numbers; NaN is passed over.
template <class T> static T largest(const T* x, int64_t n) {
    using L = Lanes<T>;
    auto larger = [](T first, T second) { return second > first ? second : first; };
    T most = T(-INFINITY);
    if (n < L::count) {
        for (int64_t c = 0; c < n; c++) most = larger(most, x[c]);
        return most;
    }
    typename L::Vector each = {}, v;
    each = each + most;
    for (int64_t c = 0; c + L::count <= n; c += L::count) {
        load(x + c, &v);
        each = v > each ? v : each;
    }
    load(x + n - L::count, &v);  // some for the second time
    each = v > each ? v : each;
    return across<T>(&each, larger);
}

// The smallest of n numbers that is larger than `floor`, infinity if none is; NaN is passed over.
template <class T> static T smallest_above(const T* x, int64_t n, T floor) {
    using L = Lanes<T>;
    auto smaller = [](T first, T second) { return second < first ? second : first; };
    T least = T(INFINITY);
    if (n < L::count) {
        for (int64_t c = 0; c < n; c++) least = smaller(least, x[c] > floor ? x[c] : T(INFINITY));
        return least;
    }
    typename L::Vector none = {}, each, v;
    none = none + least;
    each = none;
    for (int64_t c = 0; c + L::count <= n; c += L::count) {
        load(x + c, &v);
        v = v > floor ? v : none;
        each = v < each ? v : each;
    }
    load(x + n - L::count, &v);  // some for the second time
    v = v > floor ? v : none;
    each = v < each ? v : each;
    return across<T>(&each, smaller);
}

// The sum of n numbers, each lane first and then the lanes.
template <class T> static T sum(const T* x, int64_t n) {
    using L = Lanes<T>;
    int64_t whole = n / L::count * L::count;
    typename L::Vector each = {}, v;
    for (int64_t c = 0; c < whole; c += L::count) {
        load(x + c, &v);
        each += v;
    }
    T total = across<T>(&each, [](T first, T second) { return first + second; });
    for (int64_t c = whole; c < n; c++) total += x[c];
    return total;
}

}  // namespace EQUIPOISE_LEVEL
