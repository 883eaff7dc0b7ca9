#include "libtsproto/number_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "libkoal/base/hist.h"

static bool word(const char *at, size_t size, const char *what)
{
    return strlen(what) == size && strncasecmp(at, what, size) == 0;
}

/* 10^0..10^22 are doubles exactly, and so is a mantissa up to 2^53: one multiplication or division
 * then rounds once, which is right (Clinger 1990, "How to read floating point numbers accurately"). */
static const double powers[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
                                 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

/* strtod decides what the fast way cannot. The text is checked: it is a decimal number. */
static bool slow(const char *at, size_t size, double *v)
{
    char copy[TSP_NUMBER_MAX + 1];

    memcpy(copy, at, size);
    copy[size] = '\0';
    *v = strtod(copy, NULL);
    return !isinf(*v);
}

bool tsp_number_double(struct kl_span text, double *v)
{
    const char *at = text.at, *end = at + text.size, *begin = at;
    uint64_t    mantissa = 0;
    int         digits = 0, seen = 0, scale = 0, exponent = 0;
    bool        negative = false;

    if (text.size == 0 || text.size > TSP_NUMBER_MAX)
        return false;
    if (*at == '+' || *at == '-')
        negative = *at++ == '-';
    if (at < end && (*at | 0x20) >= 'i') {             /* no digit, no point */
        if (word(at, (size_t)(end - at), "nan") && at == begin)
            *v = kl_bits_f64(TSP_NAN_BITS);
        else if (word(at, (size_t)(end - at), "inf") || word(at, (size_t)(end - at), "infinity"))
            *v = negative ? -INFINITY : INFINITY;
        else
            return false;
        return true;
    }
    for (bool point = false; at < end; at++) {
        if (*at >= '0' && *at <= '9') {
            seen++;
            scale -= point;
            if (digits < 19) {
                mantissa = mantissa * 10 + (uint64_t)(*at - '0');
                digits += mantissa > 0;
            } else {
                digits++;                              /* too many for the fast way */
            }
        } else if (*at == '.' && !point) {
            point = true;
        } else {
            break;
        }
    }
    if (seen == 0)
        return false;
    if (at < end && (*at | 0x20) == 'e') {
        bool minus = false;
        if (++at < end && (*at == '+' || *at == '-'))
            minus = *at++ == '-';
        if (at == end)
            return false;
        for (; at < end && *at >= '0' && *at <= '9'; at++)
            exponent = exponent < 100000 ? exponent * 10 + (*at - '0') : exponent;
        exponent = minus ? -exponent : exponent;
    }
    if (at != end)
        return false;
    exponent += scale;
    if (digits > 19 || mantissa > UINT64_C(1) << 53 || exponent < -22 || exponent > 22)
        return slow(begin, text.size, v);
    *v = (double)mantissa;
    *v = exponent < 0 ? *v / powers[-exponent] : *v * powers[exponent];
    *v = negative ? -*v : *v;
    return true;
}

static bool digits(const char *at, const char *end, uint64_t most, uint64_t *v)
{
    uint64_t n = 0;

    if (at == end)
        return false;
    for (; at < end; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (digit > 9 || n > (most - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *v = n;
    return true;
}

bool tsp_number_nan(struct kl_span text, double *v)
{
    static const char begins[] = "NaN(0x";
    const char *at = text.at;
    uint64_t    bits = 0;

    if (text.size != sizeof begins - 1 + 17 || memcmp(at, begins, sizeof begins - 1) != 0 || at[text.size - 1] != ')')
        return false;
    for (size_t i = sizeof begins - 1; i < text.size - 1; i++) {
        char c = at[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
        bits = bits << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *v = kl_bits_f64(bits);
    return isnan(*v);
}

bool tsp_number_int64(struct kl_span text, int64_t *v)
{
    const char *at = text.at, *end = at + text.size;
    bool        negative = false;
    uint64_t    n;

    if (at < end && (*at == '+' || *at == '-'))
        negative = *at++ == '-';
    if (!digits(at, end, (uint64_t)INT64_MAX + negative, &n))
        return false;
    *v = (int64_t)(negative ? 0 - n : n);
    return true;
}

bool tsp_number_uint64(struct kl_span text, uint64_t *v)
{
    return digits(text.at, (const char *)text.at + text.size, UINT64_MAX, v);
}
