// The point function of the sigmoid family: value and derivative of one element, without its alpha.
#pragma once
#include "lossmath.h"

namespace EQUIPOISE_LEVEL {

// How the focusing exponent is computed: 0, 1 and 2 need no power.
enum Focus { GAMMA0, GAMMA1, GAMMA2, POWER };

template <class T> struct Point { T value, slope; };

// Both probabilities of a score and the pieces they are made of. None is a difference: all keep their digits.
template <class T> struct Sigmoid {
    bool votes_positive;
    T distance, e, near, far, log_norm;  // |z|, exp(-|z|), probability of the class voted for and of the other, log(1+e)
};

template <class T> EQUIPOISE_INLINE Sigmoid<T> sigmoid(T z) {
    Sigmoid<T> s;
    s.votes_positive = z >= 0;
    s.distance = magnitude(z);
    s.e = exp_of_minus(s.distance);
    s.near = 1 / (1 + s.e);
    s.far = s.e * s.near;
    s.log_norm = log1p_of_unit(s.e);
    return s;
}

// Product of a factor that may be 0 and a quantity >= 0 that may be infinite, but only then; NaN stays NaN.
template <class T> EQUIPOISE_INLINE T zero_wins(T factor, T quantity) {
    return factor * (quantity > Format<T>::largest ? Format<T>::largest : quantity);
}

// A hard target: q^gamma * -log(1 - q) and its derivative, where q = sigmoid(w) and w is the score of the wrong class.
template <class T, Focus focus> EQUIPOISE_INLINE Point<T> hard_focal(T w, T gamma) {
    Sigmoid<T> s = sigmoid(w);
    bool wrong = s.votes_positive;
    T q = wrong ? s.near : s.far, p = wrong ? s.far : s.near;
    T ce = (wrong ? s.distance : T(0)) + s.log_norm;
    if (focus == GAMMA0) return {ce, q};
    T pull = zero_wins(p, ce);
    if (focus == GAMMA1) return {q * ce, q * (q + pull)};
    if (focus == GAMMA2) return {(q * q) * ce, (q * q) * (q + 2 * pull)};
    T minus_log_q = (wrong ? T(0) : s.distance) + s.log_norm;
    T modulator = exp_of_minus(gamma * minus_log_q);
    return {modulator * ce, modulator * (q + gamma * pull)};
}

// The cross-entropy -weighed log sigmoid(z) - negative log sigmoid(-z) and its derivative.
template <class T> EQUIPOISE_INLINE Point<T> cross_entropy(const Sigmoid<T>& s, T weighed, T negative) {
    T against = s.votes_positive ? negative : weighed;
    T with_it = s.votes_positive ? weighed : negative;
    T straight = against == 0 ? T(0) : against * s.distance;
    T slope = against * s.near - with_it * s.far;
    return {straight + (weighed + negative) * s.log_norm, s.votes_positive ? slope : -slope};
}

// Any target: q^gamma * cross-entropy, where q is the probability given to the wrong class. positive + negative = 1.
template <class T, Focus focus>
EQUIPOISE_INLINE Point<T> soft_focal(T z, T positive, T negative, T pos_weight, T gamma) {
    Sigmoid<T> s = sigmoid(z);
    Point<T> ce = cross_entropy(s, pos_weight * positive, negative);
    if (focus == GAMMA0) return ce;

    // dq/dz = (negative - positive) * near * far
    T turn = negative - positive;
    T against = s.votes_positive ? negative : positive;
    T with_it = s.votes_positive ? positive : negative;
    T q = against * s.near + with_it * s.far;
    if (focus == GAMMA1 || focus == GAMMA2) {
        T change = turn * zero_wins(s.near * s.far, ce.value);
        if (focus == GAMMA1) return {q * ce.value, change + q * ce.slope};
        return {(q * q) * ce.value, q * (2 * change + q * ce.slope)};
    }
    T mix = against + with_it * s.e;
    T minus_log_q = against == 0 ? s.distance + s.log_norm : s.log_norm - log_of_positive(mix);
    T ratio = q > 0 ? s.near * (s.far / q) : T(1);  // near * far / q
    T modulator = exp_of_minus(gamma * minus_log_q);
    return {modulator * ce.value, modulator * (gamma * turn * zero_wins(ratio, ce.value) + ce.slope)};
}

}  // namespace EQUIPOISE_LEVEL
