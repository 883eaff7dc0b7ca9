/* Parameters of the query API, parsed as Prometheus parses them (web/api/v1, "parseTime"). */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/api_priv.h"

/* Far enough for any clock, near enough that a lookback can be subtracted. */
#define TIME_MS_MAX (INT64_MAX / 4)

static bool parse_float(const char *text, double *v)
{
    char *end;

    if (!isdigit((unsigned char)text[0]) && strchr("+-.", text[0]) == NULL)
        return false;
    if (text[0] == '\0' || strpbrk(text, "xXpPnN") != NULL)   /* hexadecimal, NaN, Inf */
        return false;
    *v = strtod(text, &end);
    return *end == '\0' && end != text;
}

/* Days since 1970-01-01 of a proleptic Gregorian date. */
static int64_t days_of(int64_t y, unsigned m, unsigned d)
{
    int64_t  era;
    unsigned yoe, doy, doe;

    y -= m <= 2;
    era = (y >= 0 ? y : y - 399) / 400;
    yoe = (unsigned)(y - era * 400);
    doy = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;
    doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + (int64_t)doe - 719468;
}

static bool digits(const char **at, unsigned n, unsigned *v)
{
    *v = 0;
    for (unsigned i = 0; i < n; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        *v = *v * 10 + (unsigned)(**at - '0');
    }
    return true;
}

static bool literal(const char **at, char c)
{
    return *(*at)++ == c;
}

static unsigned days_in(unsigned y, unsigned m)
{
    static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    return m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) ? 29 : days[m - 1];
}

/* RFC 3339: 2006-01-02T15:04:05[.999](Z|+01:00) */
static bool parse_rfc3339(const char *at, int64_t *ms)
{
    unsigned y, mo, d, h, mi, s, frac = 0, oh = 0, om = 0;
    int      sign = 0;

    if (!digits(&at, 4, &y) || !literal(&at, '-') || !digits(&at, 2, &mo) || !literal(&at, '-') ||
        !digits(&at, 2, &d) || !literal(&at, 'T') || !digits(&at, 2, &h) || !literal(&at, ':') ||
        !digits(&at, 2, &mi) || !literal(&at, ':') || !digits(&at, 2, &s))
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > days_in(y, mo) || h > 23 || mi > 59 || s > 59)
        return false;
    if (*at == '.') {
        unsigned n = 0;

        for (at++; isdigit((unsigned char)*at); at++, n++)
            if (n < 3)
                frac = frac * 10 + (unsigned)(*at - '0');
        if (n == 0)
            return false;
        for (; n < 3; n++)
            frac *= 10;
    }
    if (*at == 'Z') {
        at++;
    } else if (*at == '+' || *at == '-') {
        sign = *at++ == '+' ? 1 : -1;
        if (!digits(&at, 2, &oh) || !literal(&at, ':') || !digits(&at, 2, &om) || oh > 23 ||
            om > 59)
            return false;
    } else {
        return false;
    }
    if (*at != '\0')
        return false;
    *ms = ((days_of(y, mo, d) * 24 + h) * 60 + mi) * 60000 + s * 1000 + frac -
          sign * (int64_t)(oh * 60 + om) * 60000;
    return true;
}

bool qr_parse_time(const char *text, int64_t *ms)
{
    double v;

    if (parse_float(text, &v)) {
        double whole, frac = modf(v, &whole);

        if (!(fabs(v) < (double)TIME_MS_MAX / 1000))
            return false;
        *ms = (int64_t)whole * 1000 + (int64_t)round(frac * 1000);
        return true;
    }
    /* The ends of time as Prometheus' clients write them. */
    if (strcmp(text, "-292273086-05-16T16:47:06Z") == 0) {
        *ms = -TIME_MS_MAX;
        return true;
    }
    if (strcmp(text, "+292277025-08-18T07:12:54.999999999Z") == 0 ||
        strcmp(text, "292277025-08-18T07:12:54.999999999Z") == 0) {
        *ms = TIME_MS_MAX;
        return true;
    }
    return parse_rfc3339(text, ms);
}

bool qr_parse_duration(const char *text, int64_t *ms, char *err, size_t err_size)
{
    struct kl_err e;
    double        v;

    if (parse_float(text, &v)) {
        if (!(fabs(v) * 1e9 < 9.2233720368547758e18)) {
            snprintf(err, err_size, "cannot parse \"%.200s\" to a valid duration. "
                     "It overflows int64", text);
            return false;
        }
        *ms = (int64_t)(v * 1000);
        return true;
    }
    if (pql_duration(text, ms, &e) == KL_OK)
        return true;
    snprintf(err, err_size, "cannot parse \"%.200s\" to a valid duration", text);
    return false;
}

bool qr_parse_limit(const char *text, uint32_t *limit, char *err, size_t err_size)
{
    const char *at = text + (*text == '+' || *text == '-');
    char       *end;
    long long   v;

    if (!isdigit((unsigned char)*at) || at[strspn(at, "0123456789")] != '\0') {
        snprintf(err, err_size, "strconv.Atoi: parsing \"%.200s\": invalid syntax", text);
        return false;
    }
    errno = 0;
    v = strtoll(text, &end, 10);
    if (errno == ERANGE) {
        snprintf(err, err_size, "strconv.Atoi: parsing \"%.200s\": value out of range", text);
        return false;
    }
    if (v < 0) {
        snprintf(err, err_size, "limit must be non-negative");
        return false;
    }
    *limit = v > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)v;
    return true;
}

static size_t put_rune(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* "_" hex digits "_" at `*at`, which is just behind the first one. */
static bool escaped_rune(const char **at, uint32_t *rune)
{
    *rune = 0;
    for (unsigned n = 0; n < 7; n++, (*at)++) {
        int c = tolower((unsigned char)**at);

        if (c == '_')
            return *rune <= 0x10ffff && (*rune < 0xd800 || *rune > 0xdfff);
        if (n == 6 || !isxdigit(c))
            return false;
        *rune = *rune * 16 + (uint32_t)(isdigit(c) ? c - '0' : c - 'a' + 10);
    }
    return false;
}

size_t qr_unescape_name(const char *name, char *out)
{
    size_t size = 0;

    if (strncmp(name, "U__", 3) != 0)
        goto plain;
    for (const char *at = name + 3; *at != '\0'; at++) {
        uint32_t rune;

        if (*at != '_') {
            out[size++] = *at;
        } else if (at[1] == '_') {
            out[size++] = '_';
            at++;
        } else {
            at++;
            if (!escaped_rune(&at, &rune))
                goto plain;                            /* not an escaped name after all */
            size += put_rune(out + size, rune);
        }
    }
    return size;
plain:
    size = strlen(name);
    memcpy(out, name, size);
    return size;
}

bool qr_tenant_ok(const char *tenant) { return kl_tenant_ok(kl_span_str(tenant)); }
