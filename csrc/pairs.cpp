// Pairs: tiles of distances, some anchors (rows) against all candidates (columns). What matrix products cannot do: to make
// distances of the products, and to count, select and weigh within a row. Weights take the place of the distances.
#include "lanes.h"
#include "levels.h"
#include "parallel.h"
#include "sigmoid.h"

#include <math.h>

namespace EQUIPOISE_LEVEL {
namespace {

constexpr int64_t CHUNK = 65536;  // distances per unit of parallel work, at least one row
constexpr int64_t SEGMENT = 512;  // distances that are handled at a time, in the first-level cache
constexpr int64_t FEW = 32;       // up to so many positives, a pass for each beats a search for each distance

constexpr double NOWHERE = INFINITY;  // the distance to what is no negative: beyond any margin, and 0 / NOWHERE is 0

EQUIPOISE_INLINE float root_of(float x) { return sqrtf(x); }
EQUIPOISE_INLINE double root_of(double x) { return sqrt(x); }

// One anchor: its row of the tile; and one after the other its positives, the derivative with respect to each, the weight of
// the negative that each chooses, and their columns.
template <class T> struct Row {
    T* tile;
    int64_t columns, negatives, positives, twice;
    T *positive, *pull, *weight;
    int64_t* column;
};

struct Outcome { double value; int64_t count; };

// ---------------------------------------------------------------------------------------------- parts of a row

// `body(begin, n)` for the segments of [begin, end).
template <class Body> EQUIPOISE_INLINE void for_each_segment(int64_t begin, int64_t end, Body body) {
    for (; begin < end; begin += SEGMENT) body(begin, end - begin < SEGMENT ? end - begin : SEGMENT);
}

// Distances from the tile, which holds their squares where they are to be rooted.
template <class T, bool rooted> EQUIPOISE_INLINE void measure(const T* tile, int64_t n, T* d) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) d[i] = rooted ? root_of(tile[i]) : tile[i];
}

// Weights into the tile: a derivative as it is, or over the distance, which makes it a factor of the difference of two
// embeddings. At distance 0 there is no direction.
template <class T, bool rooted> EQUIPOISE_INLINE T weight_of(T derivative, T d) {
    if (!rooted) return derivative;
    T ratio = derivative / d;
    return d == 0 ? T(0) : ratio;
}
template <class T, bool rooted> EQUIPOISE_INLINE void weigh(const T* derivative, const T* d, int64_t n, T* tile) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) tile[i] = weight_of<T, rooted>(derivative[i], d[i]);
}

template <class T> void fill(T* to, T value, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = value;
}

// The place of the first that equals `value`, -1 if none does.
template <class T> int64_t place_of(const T* x, int64_t n, T value) {
    int64_t found_at = -1;
    for (int64_t begin = 0; begin < n && found_at < 0; begin += 64) {
        int64_t end = n < begin + 64 ? n : begin + 64;
        int32_t found = 0;
#pragma omp simd reduction(| : found)
        for (int64_t i = begin; i < end; i++) found |= x[i] == value;
        for (int64_t i = begin; found && i < end && found_at < 0; i++)
            if (x[i] == value) found_at = i;
    }
    return found_at;
}

// ------------------------------------------------------------------------------------------- positives in order

template <class T> struct Placed { T value; int32_t place; };

// Sorts by merging, without a branch for each comparison; equal ones keep their order. NaN does no harm but to the order.
template <class T> void sort(Placed<T>* data, Placed<T>* spare, int64_t n) {
    Placed<T>*from = data, *to = spare;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t begin = 0; begin < n; begin += 2 * width) {
            int64_t middle = begin + width < n ? begin + width : n, end = middle + width < n ? middle + width : n;
            int64_t first = begin, second = middle, out = begin;
            while (first < middle && second < end) {
                bool smaller = from[second].value < from[first].value;
                to[out++] = from[smaller ? second : first];
                first += !smaller;
                second += smaller;
            }
            while (first < middle) to[out++] = from[first++];
            while (second < end) to[out++] = from[second++];
        }
        Placed<T>* swapped = from;
        from = to;
        to = swapped;
    }
    for (int64_t i = 0; from != data && i < n; i++) data[i] = from[i];
}

// The thresholds of an anchor in rising order, and for each distance how many lie below it.
template <class T> class Ladder {
  public:
    using Bits = typename Format<T>::Bits;

    explicit Ladder(int64_t most)
        : steps(power_beyond(most)), placed(most), spare(most), rungs(steps), count(most + 1), best(most + 1), at(most + 1) {}

    bool allocated() const {
        return placed.allocated() && spare.allocated() && rungs.allocated() && count.allocated() && best.allocated() &&
               at.allocated();
    }

    // The rungs: `margin` above the positives of a row.
    void set(const Row<T>& row, T margin) {
        int64_t n = row.positives;
        steps = power_beyond(n);
        for (int64_t i = 0; i < n; i++) placed[i] = {row.positive[i] + margin, int32_t(i)};
        sort(placed.begin(), spare.begin(), n);
        for (int64_t i = 0; i < n; i++) rungs[i] = placed[i].value;
        for (int64_t i = n; i < steps; i++) rungs[i] = T(NAN);  // above nothing
    }

    // How many rungs lie below each distance, or are equal to it.
    template <bool or_equal> void find(const T* d, int64_t n, Bits* below) {
        const T* rung = rungs.begin();
        for (int64_t i = 0; i < n; i++) below[i] = 0;
        for (Bits half = Bits(steps / 2); half > 0; half /= 2)
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                T met = rung[below[i] + half - 1];
                below[i] += (or_equal ? met <= d[i] : met < d[i]) ? half : 0;
            }
    }

    int64_t steps;
    Table<Placed<T>> placed, spare;
    Table<T> rungs;
    // below each rung and above the one before: how many distances, or the nearest and its column
    Table<int64_t> count;
    Table<T> best;
    Table<int64_t> at;

  private:
    static int64_t power_beyond(int64_t n) {
        int64_t power = 1;
        while (power <= n) power *= 2;
        return power;
    }
};

// ---------------------------------------------------------------------------------- hinge: all positives, all negatives

// max(0, positive + margin - negative): a pass over each segment for each positive.
template <class T, bool rooted> Outcome hinge_by_passes(Row<T>& row, T margin) {
    Outcome out = {0, 0};
    fill(row.pull, T(0), row.positives);
    for_each_segment(0, row.columns, [&](int64_t begin, int64_t n) {
        T d[SEGMENT], derivative[SEGMENT] = {};
        measure<T, rooted>(row.tile + begin, n, d);
        for (int64_t p = 0; p < row.positives; p++) {
            T threshold = row.positive[p] + margin, total = 0, violated = 0;
#pragma omp simd reduction(+ : total, violated)
            for (int64_t i = 0; i < n; i++) {
                T over = threshold - d[i];
                T active = over > 0 ? T(1) : T(0);
                total += over > 0 ? over : T(0);
                violated += active;
                derivative[i] -= active;
            }
            out.value += double(total);
            out.count += int64_t(violated);
            row.pull[p] += violated;
        }
        weigh<T, rooted>(derivative, d, n, row.tile + begin);
    });
    return out;
}

// The same by a search: a negative violates every threshold above it.
template <class T, bool rooted> Outcome hinge_by_search(Row<T>& row, T margin, Ladder<T>& ladder) {
    using Bits = typename Format<T>::Bits;
    ladder.set(row, margin);
    for (int64_t p = 0; p <= row.positives; p++) ladder.count[p] = 0;
    Outcome out = {0, 0};
    for_each_segment(0, row.columns, [&](int64_t begin, int64_t n) {
        T d[SEGMENT], derivative[SEGMENT];
        Bits below[SEGMENT], all = Bits(row.positives);
        measure<T, rooted>(row.tile + begin, n, d);
        ladder.template find<true>(d, n, below);
        double total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < n; i++) {
            derivative[i] = T(below[i] - all);
            double part = double(derivative[i]) * double(d[i]);
            total += below[i] == all ? 0 : part;
        }
        for (int64_t i = 0; i < n; i++) ladder.count[below[i]]++;
        out.value += total;
        weigh<T, rooted>(derivative, d, n, row.tile + begin);
    });
    int64_t violated = 0;
    for (int64_t p = 0; p < row.positives; p++) {
        violated += ladder.count[p];
        row.pull[ladder.placed[p].place] = T(violated);
        out.value += violated == 0 ? 0 : double(violated) * double(ladder.rungs[p]);
        out.count += violated;
    }
    return out;
}

// log(1 + exp(positive - negative))
template <class T, bool rooted> Outcome soft(Row<T>& row) {
    Outcome out = {0, row.positives * row.negatives};
    fill(row.pull, T(0), row.positives);
    for_each_segment(0, row.columns, [&](int64_t begin, int64_t n) {
        T d[SEGMENT], derivative[SEGMENT] = {};
        measure<T, rooted>(row.tile + begin, n, d);
        for (int64_t p = 0; p < row.positives; p++) {
            T own = row.positive[p], total = 0, change = 0;
#pragma omp simd reduction(+ : total, change)
            for (int64_t i = 0; i < n; i++) {
                Point<T> point = hard_focal<T, GAMMA0>(own - d[i], T(0));
                total += point.value;
                change += point.slope;
                derivative[i] -= point.slope;
            }
            out.value += double(total);
            row.pull[p] += change;
        }
        weigh<T, rooted>(derivative, d, n, row.tile + begin);
    });
    return out;
}

// --------------------------------------------------------------------- semi-hard: the nearest negative beyond a positive

template <class T> void beyond_by_passes(const Row<T>& row, int64_t* place) {
    for (int64_t p = 0; p < row.positives; p++) {
        T nearest = smallest_above(row.tile, row.columns, row.positive[p]);
        place[p] = nearest < T(NOWHERE) ? place_of(row.tile, row.columns, nearest) : -1;
    }
}

template <class T> void beyond_by_search(const Row<T>& row, Ladder<T>& ladder, int64_t* place) {
    using Bits = typename Format<T>::Bits;
    ladder.set(row, T(0));
    for (int64_t p = 0; p <= row.positives; p++) {
        ladder.best[p] = T(NOWHERE);
        ladder.at[p] = -1;
    }
    for_each_segment(0, row.columns, [&](int64_t begin, int64_t n) {
        Bits below[SEGMENT];
        const T* d = row.tile + begin;
        ladder.template find<false>(d, n, below);
        for (int64_t i = 0; i < n; i++)
            if (d[i] < ladder.best[below[i]]) {
                ladder.best[below[i]] = d[i];
                ladder.at[below[i]] = begin + i;
            }
    });
    int64_t nearest = -1;
    for (int64_t p = row.positives; p > 0; p--) {
        if (ladder.at[p] >= 0) nearest = ladder.at[p];  // the rungs above are farther
        place[ladder.placed[p - 1].place] = nearest;
    }
}

template <class T> int64_t farthest(const Row<T>& row) {
    T most = -1;
    for_each_segment(0, row.columns, [&](int64_t begin, int64_t n) {
        T d[SEGMENT];
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            T far = row.tile[begin + i];
            d[i] = far < T(NOWHERE) ? far : T(-1);
        }
        T here = largest(d, n);
        most = here > most ? here : most;
    });
    return most < 0 ? -1 : place_of(row.tile, row.columns, most);
}

template <class T, bool rooted>
Outcome semihard(Row<T>& row, T margin, bool is_soft, Ladder<T>& ladder, int64_t* place) {
    Outcome out = {0, row.negatives > 0 ? row.positives : 0};
    if (rooted) measure<T, true>(row.tile, row.columns, row.tile);
    if (row.positives <= FEW) beyond_by_passes(row, place);
    else beyond_by_search(row, ladder, place);
    constexpr int64_t UNKNOWN = -2;
    int64_t last = UNKNOWN;
    for (int64_t p = 0; p < row.positives; p++) {
        if (place[p] < 0) place[p] = last = last == UNKNOWN ? farthest(row) : last;
        row.pull[p] = 0;
        if (place[p] < 0) continue;  // there is no negative
        T ahead = row.positive[p] - row.tile[place[p]], over = ahead + margin;
        Point<T> point = {over > 0 ? over : T(0), over > 0 ? T(1) : T(0)};
        if (is_soft) point = hard_focal<T, GAMMA0>(ahead, T(0));
        out.value += double(point.value);
        row.pull[p] = point.slope;
        row.weight[p] = weight_of<T, rooted>(point.slope, row.tile[place[p]]);
    }
    fill(row.tile, T(0), row.columns);
    for (int64_t p = 0; p < row.positives; p++)
        if (place[p] >= 0) row.tile[place[p]] -= row.weight[p];
    return out;
}

// ------------------------------------------------------------------------------------- contrastive: pair by pair

// positive^power and max(0, margin - negative)^power; from the column `twice` on everything counts twice.
template <class T, bool rooted, bool squares> Outcome pairwise(Row<T>& row, T margin) {
    Outcome out = {0, row.positives + row.negatives};
    auto pass = [&](T times) {
        return [&row, &out, margin, times](int64_t begin, int64_t n) {
            T d[SEGMENT], derivative[SEGMENT], total = 0;
            measure<T, rooted>(row.tile + begin, n, d);
#pragma omp simd reduction(+ : total)
            for (int64_t i = 0; i < n; i++) {
                T under = margin - d[i];
                bool active = under > 0;
                T slope = squares ? 2 * under : T(1), value = squares ? under * under : under;
                total += active ? value : T(0);
                derivative[i] = active ? -times * slope : T(0);
            }
            out.value += double(times) * double(total);
            for (int64_t i = 0; times == 2 && i < n; i++) out.count += d[i] < T(NOWHERE);
            weigh<T, rooted>(derivative, d, n, row.tile + begin);
        };
    };
    for_each_segment(0, row.twice, pass(T(1)));
    for_each_segment(row.twice, row.columns, pass(T(2)));
    for (int64_t p = 0; p < row.positives; p++) {
        T d = row.positive[p], times = row.column[p] < row.twice ? T(1) : T(2);
        out.value += double(times) * double(squares ? d * d : d);
        out.count += times == 2;
        row.pull[p] = times * (squares ? 2 * d : T(1));
    }
    return out;
}

// ------------------------------------------------------------------------------------------ softmax of scores

EQUIPOISE_INLINE double softplus(double z) { return (z > 0 ? z : 0.0) + log1p_of_unit(exp_of_minus(magnitude(z))); }

// -1/|P| sum_p log softmax_p over positives and negatives together.
template <class T> Outcome softmax(Row<T>& row) {
    if (row.positives == 0) {
        fill(row.tile, T(0), row.columns);
        return {0, 0};
    }
    T most = largest(row.positive, row.positives), beside = largest(row.tile, row.columns);
    T top = beside > most ? beside : most;
    top = top == T(-INFINITY) ? T(0) : top;
    double others = 0, own = 0, value = 0, share = 1 / double(row.positives);
    for_each_segment(0, row.columns, [&](int64_t begin, int64_t n) {
        T* x = row.tile + begin;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) x[i] = exp_of_minus(top - x[i]);
        others += double(sum(x, n));
    });
    for (int64_t p = 0; p < row.positives; p++) own += exp_of_minus(double(top) - double(row.positive[p]));
    double whole = others + own, log_whole = log_of_positive(whole);
    T factor = T(1 / whole);
#pragma omp simd
    for (int64_t i = 0; i < row.columns; i++) row.tile[i] *= factor;
    for (int64_t p = 0; p < row.positives; p++) {
        double below = double(top) - double(row.positive[p]);
        if (row.positives == 1) {  // neither log p nor p - 1 cancels
            value = others == 0 ? 0 : softplus(log_of_positive(others) + below);
            row.pull[p] = T(-others / whole);
        } else {
            value += share * (below + log_whole);
            row.pull[p] = T(exp_of_minus(below) / whole - share);
        }
    }
    return {value, 1};
}

// ------------------------------------------------------------------------- hard: farthest positive, nearest negative

template <class T> bool is_nan(T x) { return x != x; }

// The columns of the farthest positive and the nearest negative; NaN is farther and nearer than all.
template <class T> void hardest(const Row<T>& row, int64_t* far, int64_t* near) {
    int64_t best = 0;
    for (int64_t p = 1; p < row.positives; p++) {
        T here = row.positive[p], most = row.positive[best];
        if (here > most || (is_nan(here) && !is_nan(most))) best = p;
    }
    *far = row.positives > 0 ? row.column[best] : 0;
    int32_t broken = 0;
#pragma omp simd reduction(| : broken)
    for (int64_t i = 0; i < row.columns; i++) broken |= is_nan(row.tile[i]);
    int64_t place = 0;
    if (broken)
        while (!is_nan(row.tile[place])) place++;
    else
        place = place_of(row.tile, row.columns, smallest_above(row.tile, row.columns, T(-INFINITY)));
    *near = place < 0 ? 0 : place;
}

// ------------------------------------------------------------------------------------------------------ the kernels

template <class T> class PairsKernel {
  public:
    explicit PairsKernel(const equipoise_pairs_call& call) : call(call) {
        per_chunk = CHUNK / (call.columns > 0 ? call.columns : 1);
        per_chunk = per_chunk > 0 ? per_chunk : 1;
        nowhere = call.rule == EQUIPOISE_PAIRS_SOFTMAX ? T(-NOWHERE) : T(NOWHERE);
    }

    int32_t run() {
        int64_t chunks = (call.rows + per_chunk - 1) / per_chunk;
        Partials partials(chunks);
        if (!partials.allocated()) return EQUIPOISE_OUT_OF_MEMORY;
        auto body = [&](int64_t chunk) { partials[chunk] = run_chunk(chunk); };
        for_each_chunk(chunks, body);
        *call.value = partials.sum();
        *call.count = count;
        return exhausted ? EQUIPOISE_OUT_OF_MEMORY : 0;
    }

  private:
    double run_chunk(int64_t chunk) {
        Table<T> numbers(3 * call.places);
        Table<int64_t> columns(2 * call.places);
        Ladder<T> ladder(call.places > FEW ? call.places : 0);
        if (!numbers.allocated() || !columns.allocated() || !ladder.allocated()) {
            __atomic_store_n(&exhausted, 1, __ATOMIC_RELAXED);
            return 0;
        }
        Outcome total = {0, 0};
        int64_t end = (chunk + 1) * per_chunk < call.rows ? (chunk + 1) * per_chunk : call.rows;
        for (int64_t at = chunk * per_chunk; at < end; at++) {
            Row<T> row = {static_cast<T*>(call.tile) + at * call.columns, call.columns, call.negatives[at], 0, call.twice,
                          numbers.begin(), numbers.begin() + call.places, numbers.begin() + 2 * call.places,
                          columns.begin()};
            take_positives(row, at);
            leave_negatives(row, at);
            Outcome one = call.rooted ? evaluate<true>(row, at, ladder, columns.begin() + call.places)
                                      : evaluate<false>(row, at, ladder, columns.begin() + call.places);
            if (call.rule != EQUIPOISE_PAIRS_HARD) pull(row);
            total.value += one.value;
            total.count += one.count;
        }
        __atomic_fetch_add(&count, total.count, __ATOMIC_RELAXED);  // whole numbers have the same sum in any order
        return total.value;
    }

    void take_positives(Row<T>& row, int64_t at) {
        const int64_t* column = call.column + at * call.places;
        const uint8_t* valid = call.valid + at * call.places;
        for (int64_t p = 0; p < call.places; p++) {
            if (!valid[p]) continue;
            T d = row.tile[column[p]];
            row.column[row.positives] = column[p];
            row.positive[row.positives++] = call.rooted ? root_of(d) : d;
        }
    }

    // What is no negative goes out of the way.
    void leave_negatives(Row<T>& row, int64_t at) {
        for (int64_t p = 0; p < row.positives; p++) row.tile[row.column[p]] = nowhere;
        if (call.own >= 0) row.tile[call.own + at] = nowhere;
        if (!call.mask) return;
        const uint8_t* mask = call.mask + at * call.columns;
        for (int64_t i = 0; i < call.columns; i++) row.tile[i] = mask[i] ? row.tile[i] : nowhere;
    }

    template <bool rooted> Outcome evaluate(Row<T>& row, int64_t at, Ladder<T>& ladder, int64_t* place) {
        T margin = T(call.margin);
        switch (call.rule) {
            case EQUIPOISE_PAIRS_ALL:
                if (call.soft) return soft<T, rooted>(row);
                return row.positives <= FEW ? hinge_by_passes<T, rooted>(row, margin)
                                            : hinge_by_search<T, rooted>(row, margin, ladder);
            case EQUIPOISE_PAIRS_SEMIHARD: return semihard<T, rooted>(row, margin, call.soft != 0, ladder, place);
            case EQUIPOISE_PAIRS_CONTRASTIVE:
                return call.power == 2 ? pairwise<T, rooted, true>(row, margin) : pairwise<T, rooted, false>(row, margin);
            case EQUIPOISE_PAIRS_SOFTMAX: return softmax(row);
            default: hardest(row, call.far + at, call.near + at); return {0, 1};
        }
    }

    // The weights of the positives.
    void pull(const Row<T>& row) {
        for (int64_t p = 0; p < row.positives; p++)
            row.tile[row.column[p]] += call.rooted ? weight_of<T, true>(row.pull[p], row.positive[p]) : row.pull[p];
    }

    const equipoise_pairs_call& call;
    int64_t per_chunk, count = 0;
    T nowhere;
    int exhausted = 0;
};

// Distances out of products; see `equipoise_distances_call`.
template <class T> class DistancesKernel {
  public:
    explicit DistancesKernel(const equipoise_distances_call& call)
        : call(call), scale(static_cast<const T*>(call.scale)), square(static_cast<const T*>(call.square)),
          row_square(static_cast<const T*>(call.row_square)) {}

    int32_t run() {
        int64_t per_chunk = CHUNK / (call.columns > 0 ? call.columns : 1);
        per_chunk = per_chunk > 0 ? per_chunk : 1;
        auto body = [&](int64_t chunk) {
            int64_t end = (chunk + 1) * per_chunk < call.rows ? (chunk + 1) * per_chunk : call.rows;
            for (int64_t at = chunk * per_chunk; at < end; at++) run_row(at);
        };
        for_each_chunk((call.rows + per_chunk - 1) / per_chunk, body);
        return 0;
    }

  private:
    void run_row(int64_t at) {
        T* row = static_cast<T*>(call.tile) + at * call.stride;
        T shift = row_square ? row_square[at] : T(1);
        if (scale) square ? complete<true, true>(row, shift) : complete<true, false>(row, shift);
        else square ? complete<false, true>(row, shift) : complete<false, false>(row, shift);
        int64_t own = call.own + at;
        if (call.own >= 0 && own < call.columns) row[own] = T(NOWHERE);
        if (call.near) call.near[at] = smallest_above(row, call.columns, T(-1)) <= T(call.share) * (shift + T(call.most));
    }

    template <bool scaled, bool squared> void complete(T* row, T shift) {
#pragma omp simd
        for (int64_t i = 0; i < call.columns; i++) {
            T d = scaled ? row[i] * scale[i] : row[i];
            d = (squared ? d + square[i] : d) + shift;
            row[i] = d < 0 ? T(0) : d;
        }
    }

    const equipoise_distances_call& call;
    const T *scale, *square, *row_square;
};

}  // namespace

int32_t run_pairs(const equipoise_pairs_call* call) {
    return call->dtype == EQUIPOISE_FLOAT64 ? PairsKernel<double>(*call).run() : PairsKernel<float>(*call).run();
}

int32_t run_distances(const equipoise_distances_call* call) {
    return call->dtype == EQUIPOISE_FLOAT64 ? DistancesKernel<double>(*call).run() : DistancesKernel<float>(*call).run();
}

}  // namespace EQUIPOISE_LEVEL
