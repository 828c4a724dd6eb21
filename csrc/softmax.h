// The point functions of the softmax family: from what a row's exponentials add up to, its loss and the factors of its
// gradient. All loops go over the rows of a block, so they vectorise however long the rows are.
#pragma once
#include "sigmoid.h"

namespace EQUIPOISE_LEVEL {

constexpr int64_t WIDTH = 240;  // rows of a block at most: whole vectors, and an odd number of cache lines (of floats)

// A margin at which the loss and its gradient are exactly 0, and times a tiny gamma is no NaN as infinity is.
constexpr double CERTAIN = 1e4;

// A block of rows. A row's target is 0 where it is ignored.
template <class T> struct RowBlock {
    int64_t begin, n;
    int64_t target[WIDTH];
    T kept[WIDTH];    // 1 or 0
    T weight[WIDTH];  // factor of the loss
    T factor[WIDTH];  // factor of the gradient besides that
    T shift[WIDTH];   // what exponentials are taken relative to: in general the largest score
    T sum[WIDTH];     // of the exponentials of all classes but the target (smoothing: but the top class)
};

// The factors of a gradient with a hard target: `slope` of the target, `others` of the other classes' exponentials.
template <class T> struct HardRows { T own[WIDTH], slope[WIDTH], others[WIDTH]; };

// log p - log(1 - p) of the target. Without any other class the sum is 0; a row of nothing but infinities has no margin.
template <class T> EQUIPOISE_INLINE T margin(T own, T sum) {
    T certain = own - own == 0 ? T(CERTAIN) : own - own;
    return sum == 0 ? certain + own : own - log_of_positive(sum);
}

// Returns the sum of the losses. With the margin d of the target to all other classes together p = sigmoid(d), so a row is
// a sigmoid loss with w = -d; its slope reaches the other classes in proportion to their exponentials.
template <class T, Focus focus> static T hard_points(const RowBlock<T>& rows, HardRows<T>& hard, T gamma, T* value) {
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < rows.n; i++) {
        bool kept = rows.kept[i] != 0;
        T sum = rows.sum[i];
        Point<T> point = hard_focal<T, focus>(-margin(hard.own[i] - rows.shift[i], sum), gamma);
        T weighed = kept ? rows.weight[i] * point.value : T(0);
        T slope = kept ? (rows.weight[i] * rows.factor[i]) * point.slope : T(0);
        total += weighed;
        value[i] = weighed;
        hard.slope[i] = -slope;
        hard.others[i] = sum == 0 ? T(0) : slope / sum;
    }
    return total;
}

// f(p) = -(1-p)^gamma log p and h = -df/dlog p of one class.
template <class T> struct Term { T value, change; };

// For p <= 1/2, where 1 - p keeps its digits.
template <class T, Focus focus> EQUIPOISE_INLINE Term<T> minor_term(T p, T minus_log_p, T gamma) {
    if (focus == GAMMA0) return {minus_log_p, T(1)};
    T q = 1 - p, pull = zero_wins(p, minus_log_p);
    if (focus == GAMMA1) return {q * minus_log_p, q + pull};
    if (focus == GAMMA2) return {(q * q) * minus_log_p, q * (q + 2 * pull)};
    T modulator = exp_of_minus(gamma * -log_of_positive(q));
    return {modulator * minus_log_p, modulator * (1 + gamma * pull / q)};
}

// The class with the largest score: what it adds, and what the other classes' terms are computed from.
template <class T> struct TopClass { T p, q, minus_log_p; Term<T> term; };

// `odds` = (1 - p) / p is the sum of the others' exponentials relative to its own.
template <class T, Focus focus> EQUIPOISE_INLINE TopClass<T> top_class(T odds, T gamma) {
    bool likely = odds <= 1;
    T e = likely ? odds : 1 / odds;
    T near = 1 / (1 + e), far = e * near, log_norm = log1p_of_unit(e);
    T distance = likely ? T(0) : log_of_positive(odds);
    T p = likely ? near : far, q = likely ? far : near, minus_log_p = distance + log_norm;
    if (focus == GAMMA0) return {p, q, minus_log_p, {minus_log_p, T(1)}};
    T modulator = focus == GAMMA1 ? q : q * q;
    if (focus == POWER) {
        T minus_log_q = log_norm - (likely ? log_of_positive(odds) : T(0));
        modulator = odds == 0 ? T(0) : exp_of_minus(gamma * minus_log_q);
    }
    T ratio = likely ? (odds == 0 ? T(1) : log_norm / e) : e * minus_log_p;  // p * -log p / q
    return {p, q, minus_log_p, {modulator * minus_log_p, modulator * (1 + gamma * ratio)}};
}

}  // namespace EQUIPOISE_LEVEL
