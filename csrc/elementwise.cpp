// Sigmoid family: loss and gradient in one pass over the elements.
#include "convert.h"
#include "levels.h"
#include "parallel.h"
#include "sigmoid.h"

namespace EQUIPOISE_LEVEL {
namespace {

constexpr int64_t CHUNK = 16384;  // elements per unit of parallel work

// What is the same for all elements.
template <class T> struct Constants { T positive, negative, gamma, keep, smoothing, scale; };

// Operands of one block; used where there is more than a hard target and constant weights.
template <class T> struct Operands { const T *weight, *pos_weight, *alpha_positive, *alpha_negative, *upstream; };

// Hard targets, constant weights: nearly every call. `soft` is set where a target is neither 0 nor 1; the block is then
// to be computed anew.
template <class T, Focus focus, bool values, bool slopes>
T plain_block(const T* z, const T* y, int64_t n, const Constants<T>& c, T* value, T* slope, bool* soft) {
    T total = 0, turn_positive = -c.positive * c.scale, turn_negative = c.negative * c.scale;
    int others = 0;
#pragma omp simd reduction(+ : total) reduction(| : others)
    for (int64_t i = 0; i < n; i++) {
        bool positive = y[i] == 1;
        others |= !positive && y[i] != 0;
        Point<T> point = hard_focal<T, focus>(positive ? -z[i] : z[i], c.gamma);
        T weighed = (positive ? c.positive : c.negative) * point.value;
        total += weighed;
        if (values) value[i] = weighed;
        if (slopes) slope[i] = (positive ? turn_positive : turn_negative) * point.slope;
    }
    *soft = others != 0;
    return total;
}

// Value and derivative with respect to the score of any target, or of a hard one, without its alpha.
template <class T, Focus focus, bool hard>
EQUIPOISE_INLINE Point<T> point_for(T score, T positive, T negative, T pos_weight, T gamma) {
    if constexpr (hard) {
        // arithmetic instead of choices, which keep GCC from vectorising the loop around
        T sign = negative - positive, factor = pos_weight * positive + negative;
        Point<T> point = hard_focal<T, focus>(sign * score, gamma);
        return {factor * point.value, (sign * factor) * point.slope};
    } else {
        return soft_focal<T, focus>(score, positive, negative, pos_weight, gamma);
    }
}

template <class T, Focus focus, bool hard>
T full_block(const T* z, const T* y, int64_t n, const Constants<T>& c, const Operands<T>& o, T* value, T* slope) {
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++) {
        T positive = hard ? y[i] : y[i] * c.keep + c.smoothing;
        T negative = hard ? 1 - y[i] : (1 - y[i]) * c.keep + c.smoothing;
        T alpha = c.positive * o.alpha_positive[i] * positive + c.negative * o.alpha_negative[i] * negative;
        T weight = alpha * o.weight[i];
        Point<T> point = point_for<T, focus, hard>(z[i], positive, negative, o.pos_weight[i], c.gamma);
        T weighed = weight * point.value;
        total += weighed;
        value[i] = weighed;
        slope[i] = (weight * c.scale * o.upstream[i]) * point.slope;
    }
    return total;
}

// Puts 0 where the mask is 0, whatever the numbers there, and returns the sum of the values. Apart from the loop above: were
// the choice made there, GCC would move the reading of the operands into it and not vectorise.
template <class T> T apply_mask(const T* mask, int64_t n, T* value, T* slope) {
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++) {
        T loss = value[i], turned = slope[i];
        loss = mask[i] != 0 ? loss : T(0);
        total += loss;
        value[i] = loss;
        slope[i] = mask[i] != 0 ? turned : T(0);
    }
    return total;
}

// Whether targets leave [0, 1] (NaN does), and whether one lies strictly between.
struct Targets { bool outside, soft; };

template <class T> Targets look_at(const T* y, const T* mask, int64_t n) {
    int outside = 0, soft = 0;
    for (int64_t i = 0; i < n; i++) {
        bool kept = mask == nullptr || mask[i] != 0, inside = y[i] >= 0 && y[i] <= 1;
        outside |= kept && !inside;
        soft |= kept && y[i] != 0 && y[i] != 1;
    }
    return {outside != 0, soft != 0};
}

template <class T> class SigmoidKernel {
  public:
    explicit SigmoidKernel(const equipoise_sigmoid_call& call)
        : call(call), common(call.common), input(input_of(call.common)), gradient{common.gradient, common.dtype} {
        plain = !(call.mask.data || call.weight.data || call.pos_weight.data || call.alpha_positive.data ||
                  common.upstream.data || call.smoothing != 0);
        values = common.reduction == EQUIPOISE_NONE;
    }

    int32_t run() {
        int64_t chunks = (common.size + CHUNK - 1) / CHUNK;
        Partials partials(chunks);
        if (!partials.allocated()) return EQUIPOISE_OUT_OF_MEMORY;
        double divisor = common.has_divisor ? common.divisor : own_divisor(partials, chunks);
        double factor = divisor == 0 ? 0 : common.scale / divisor;
        constants = {T(call.positive), T(call.negative), T(call.gamma), T(1 - call.smoothing), T(call.smoothing / 2),
                     T(factor)};
        auto body = [&](int64_t chunk) { partials[chunk] = run_chunk(chunk); };
        for_each_chunk(chunks, body);
        // nothing is kept: 0, whatever the numbers at ignored places
        if (!values) *static_cast<T*>(common.loss) = factor == 0 ? T(0) : T(partials.sum() * factor);
        return outside ? EQUIPOISE_TARGET_OUT_OF_RANGE : 0;
    }

  private:
    // A mean's divisor: the number of kept elements, or the sum of their targets.
    double own_divisor(Partials& partials, int64_t chunks) {
        bool positives = common.reduction == EQUIPOISE_MEAN_POSITIVE;
        if (!positives && (common.reduction != EQUIPOISE_MEAN || !call.mask.data))
            return common.reduction == EQUIPOISE_MEAN ? double(common.size) : 1;
        auto body = [&](int64_t chunk) {
            T masks[BLOCK], labels[BLOCK];
            double total = 0;
            for_each_block<CHUNK, BLOCK>(chunk, common.size, [&](int64_t begin, int64_t n) {
                const T* mask = read_or(call.mask, T(1), begin, n, masks);
                const T* label = positives ? read(call.target, begin, n, labels) : mask;
                T sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < n; i++) sum += mask[i] != 0 ? label[i] : T(0);
                total += double(sum);
            });
            partials[chunk] = total;
        };
        for_each_chunk(chunks, body);
        double total = partials.sum();
        return positives && total < 1 ? 1 : total;
    }

    double run_chunk(int64_t chunk) {
        double total = 0;
        if (plain)
            for_each_block<CHUNK, BLOCK>(chunk, common.size, [&](int64_t begin, int64_t n) { total += double(run_plain(begin, n)); });
        else
            for_each_block<CHUNK, BLOCK>(chunk, common.size, [&](int64_t begin, int64_t n) { total += double(run_full(begin, n)); });
        return total;
    }

    T run_plain(int64_t begin, int64_t n) {
        T scores[BLOCK], labels[BLOCK], slopes[BLOCK];
        const T* z = read(input, begin, n, scores);
        const T* y = read(call.target, begin, n, labels);
        T* value = values ? static_cast<T*>(common.loss) + begin : nullptr;
        T* slope = gradient.data ? gradient.place(begin, slopes) : nullptr;
        bool soft;
        T total = plain_for(z, y, n, value, slope, &soft);
        if (soft) return run_full(begin, n);
        if (gradient.data) gradient.write(begin, n, slope);
        return total;
    }

    T plain_for(const T* z, const T* y, int64_t n, T* value, T* slope, bool* soft) {
        if (slope) return value ? plain_with<true, true>(z, y, n, value, slope, soft)
                                : plain_with<false, true>(z, y, n, value, slope, soft);
        return value ? plain_with<true, false>(z, y, n, value, slope, soft)
                     : plain_with<false, false>(z, y, n, value, slope, soft);
    }

    template <bool with_values, bool with_slopes>
    T plain_with(const T* z, const T* y, int64_t n, T* value, T* slope, bool* soft) {
        if (call.gamma == 0) return plain_block<T, GAMMA0, with_values, with_slopes>(z, y, n, constants, value, slope, soft);
        if (call.gamma == 1) return plain_block<T, GAMMA1, with_values, with_slopes>(z, y, n, constants, value, slope, soft);
        if (call.gamma == 2) return plain_block<T, GAMMA2, with_values, with_slopes>(z, y, n, constants, value, slope, soft);
        return plain_block<T, POWER, with_values, with_slopes>(z, y, n, constants, value, slope, soft);
    }

    T run_full(int64_t begin, int64_t n) {
        T scores[BLOCK], labels[BLOCK], slopes[BLOCK], losses[BLOCK];
        T masks[BLOCK], weights[BLOCK], pos_weights[BLOCK], positives[BLOCK], negatives[BLOCK], upstreams[BLOCK];
        const T* z = read(input, begin, n, scores);
        const T* y = read(call.target, begin, n, labels);
        const T* mask = call.mask.data ? read(call.mask, begin, n, masks) : nullptr;
        Operands<T> operands = {read_or(call.weight, T(1), begin, n, weights),
                                read_or(call.pos_weight, T(1), begin, n, pos_weights),
                                read_or(call.alpha_positive, T(1), begin, n, positives),
                                read_or(call.alpha_negative, T(1), begin, n, negatives),
                                read_or(common.upstream, T(1), begin, n, upstreams)};
        T* value = values ? static_cast<T*>(common.loss) + begin : losses;
        T* slope = gradient.data ? gradient.place(begin, slopes) : slopes;
        Targets targets = look_at(y, mask, n);
        if (targets.outside) __atomic_store_n(&outside, 1, __ATOMIC_RELAXED);
        bool hard = !targets.soft && call.smoothing == 0;
        T total = hard ? full_with<true>(z, y, n, operands, value, slope)
                       : full_with<false>(z, y, n, operands, value, slope);
        if (mask) total = apply_mask(mask, n, value, slope);
        if (gradient.data) gradient.write(begin, n, slope);
        return total;
    }

    template <bool hard>
    T full_with(const T* z, const T* y, int64_t n, const Operands<T>& operands, T* value, T* slope) {
        if (call.gamma == 0) return full_block<T, GAMMA0, hard>(z, y, n, constants, operands, value, slope);
        if (call.gamma == 1) return full_block<T, GAMMA1, hard>(z, y, n, constants, operands, value, slope);
        if (call.gamma == 2) return full_block<T, GAMMA2, hard>(z, y, n, constants, operands, value, slope);
        return full_block<T, POWER, hard>(z, y, n, constants, operands, value, slope);
    }

    const equipoise_sigmoid_call& call;
    const equipoise_common& common;
    equipoise_operand input;
    Output<T> gradient;
    Constants<T> constants;
    bool plain, values;
    int outside = 0;
};

}  // namespace

int32_t run_sigmoid(const equipoise_sigmoid_call* call) {
    return call->common.dtype == EQUIPOISE_FLOAT64 ? SigmoidKernel<double>(*call).run()
                                                   : SigmoidKernel<float>(*call).run();
}

}  // namespace EQUIPOISE_LEVEL
