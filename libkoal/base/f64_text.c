/*
 * Doubles as decimal text, the shortest that reads back as the same double, as Go's
 * strconv.FormatFloat(v, 'f', -1, 64) gives it.
 *
 * Between 1e-5 and 2^53 it is done in 128-bit integers, exactly. With v = m * 2^-s and a k that gives
 * v * 10^k seventeen digits, every decimal that reads back as v lies between (4m-2) * 10^k / 2^(s+2), or
 * (4m-1) where v is a power of two and the double below is half as far, and (4m+2) * 10^k / 2^(s+2); of
 * those, the one that is a multiple of the highest power of ten is wanted, and the nearest to v if
 * there are several (Steele and White, PLDI 1990, the arithmetic bounded by the range). 4m+2 < 2^55 and
 * k <= 21, so products stay below 2^125. Elsewhere the C library is asked.
 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "libkoal/base/hist.h"
#include "libkoal/base/json.h"

static const uint64_t tens[] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000,
    100000000000, 1000000000000, 10000000000000, 100000000000000, 1000000000000000,
    10000000000000000, 100000000000000000, 1000000000000000000,
};

/* The decimal digits of v, of which there are at most 20; returns how many. */
static size_t decimal(uint64_t v, char *text)
{
    char   reversed[20];
    size_t n = 0;

    do
        reversed[n++] = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    for (size_t i = 0; i < n; i++)
        text[i] = reversed[n - 1 - i];
    return n;
}

static size_t put(char *text, const char *what)
{
    size_t n = strlen(what);

    memcpy(text, what, n);
    return n;
}

/* `digits` significant digits, the first of which stands for 10^exponent, without an exponent. */
static size_t spread(const char *digits, size_t n, int exponent, char *text)
{
    size_t at = 0;

    if (exponent < 0) {
        at += put(text, "0.");
        for (int i = -1; i > exponent; i--)
            text[at++] = '0';
        memcpy(text + at, digits, n);
        return at + n;
    }
    for (size_t i = 0; i <= (size_t)exponent || i < n; i++) {
        if (i == (size_t)exponent + 1)
            text[at++] = '.';
        text[at++] = i < n ? digits[i] : '0';
    }
    return at;
}

static unsigned __int128 ten_to(int k)
{
    return k <= 18 ? tens[k] : (unsigned __int128)tens[18] * tens[k - 18];
}

/* floor(log10 v) or, beside a power of ten that is no double, one off: no harm. */
static int magnitude(double v)
{
    int n = 0;

    if (v >= 1) {
        while (n < 15 && v >= (double)tens[n + 1])
            n++;
        return n;
    }
    while (n > -5 && v * (double)tens[-n] < 1)
        n--;
    return n;
}

/* The shortest digits of 1e-5 <= v < 2^53, the first of which stands for 10^*exponent. 0: not here. */
static size_t shortest(double v, char digits[20], int *exponent)
{
    uint64_t          bits = kl_f64_bits(v), m = (bits & ((UINT64_C(1) << 52) - 1)), lo, hi, q, whole, below;
    int               s = 1075 - (int)(bits >> 52), k = 16 - magnitude(v), j = 0;
    unsigned __int128 ten, low, high, middle, mask;
    size_t            n;

    if (v < 1e-5 || v >= 9007199254740992.0)
        return 0;
    below = m == 0 ? 1 : 2;
    m |= UINT64_C(1) << 52;
    ten = ten_to(k);
    low = (4 * m - below) * ten;
    middle = 4 * m * ten;
    high = (4 * m + 2) * ten;
    mask = ((unsigned __int128)1 << (s + 2)) - 1;
    /* A decimal exactly between two doubles reads as the one that is even. */
    lo = (uint64_t)(low >> (s + 2)) + ((low & mask) != 0 || m % 2 != 0);
    hi = (uint64_t)(high >> (s + 2)) - ((high & mask) == 0 && m % 2 != 0);
    for (; (lo + 9) / 10 <= hi / 10; j++) {
        lo = (lo + 9) / 10;
        hi /= 10;
    }
    q = lo;
    if (lo < hi) {
        bool     some = (middle & mask) != 0;
        uint64_t rest;

        whole = (uint64_t)(middle >> (s + 2));
        q = whole / tens[j];
        rest = whole % tens[j];
        if (j == 0) {
            unsigned __int128 part = middle & mask, half = (mask >> 1) + 1;

            q += part > half || (part == half && q % 2 != 0);
        } else {
            q += rest > tens[j] / 2 || (rest == tens[j] / 2 && (some || q % 2 != 0));
        }
        q = q < lo ? lo : q > hi ? hi : q;
    }
    n = decimal(q, digits);
    *exponent = (int)n - 1 + j - k;
    return n;
}

size_t kl_f64_text(double v, char text[KL_F64_TEXT_MAX])
{
    char   e[40], digits[20], *mark;
    size_t n = 0, at = 0;
    int    exponent;

    if (isnan(v))
        return put(text, "NaN");
    if (isinf(v))
        return put(text, v > 0 ? "+Inf" : "-Inf");
    if (fabs(v) < 1e15 && v == (double)(int64_t)v && !(v == 0 && signbit(v))) {
        if (v < 0)
            text[at++] = '-';
        return at + decimal((uint64_t)fabs(v), text + at);
    }
    if (v == 0)
        return put(text, "-0");
    if (v < 0)
        text[at++] = '-';
    n = shortest(fabs(v), digits, &exponent);
    if (n > 0)
        return at + spread(digits, n, exponent, text + at);
    /* The shortest that reads back. Every normal double whose shortest form has up to 15 digits
     * shows it at 15; subnormals have fewer bits, and are tried from one digit up. */
    for (int precision = fabs(v) < DBL_MIN ? 0 : 14; precision <= 16; precision++) {
        snprintf(e, sizeof e, "%.*e", precision, fabs(v));
        if (precision == 16 || strtod(e, NULL) == fabs(v))
            break;
    }
    mark = strchr(e, 'e');
    for (const char *c = e; c < mark; c++)
        if (*c != '.')
            digits[n++] = *c;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    return at + spread(digits, n, atoi(mark + 1), text + at);
}
