/* Texts and numbers as Go reads and writes them: quoting, %g, durations, literals. Sources: the Go
 * specification (literals), package strconv's documentation, Prometheus' model.Duration. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/ast_priv.h"

#include "libkoal/base/json.h"

int32_t pql_rune(const char *at, const char *end, int *width)
{
    const uint8_t *p = (const uint8_t *)at;
    ptrdiff_t      left = end - at;
    int            n;
    int32_t        r, least;

    if (left <= 0)
        return *width = 0, -1;
    *width = 1;
    if (p[0] < 0x80)
        return p[0];
    if (p[0] >= 0xC2 && p[0] < 0xE0)
        n = 2, r = p[0] & 0x1F, least = 0x80;
    else if (p[0] >= 0xE0 && p[0] < 0xF0)
        n = 3, r = p[0] & 0x0F, least = 0x800;
    else if (p[0] >= 0xF0 && p[0] < 0xF5)
        n = 4, r = p[0] & 0x07, least = 0x10000;
    else
        return 0xFFFD;
    if (left < n)
        return 0xFFFD;
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0xFFFD;
        r = r << 6 | (p[i] & 0x3F);
    }
    if (r < least || r > 0x10FFFF || (r >= 0xD800 && r < 0xE000))
        return 0xFFFD;
    *width = n;
    return r;
}

int pql_put_rune(char *out, uint32_t r)
{
    if (r < 0x80)
        return out[0] = (char)r, 1;
    if (r < 0x800) {
        out[0] = (char)(0xC0 | r >> 6);
        out[1] = (char)(0x80 | (r & 0x3F));
        return 2;
    }
    if (r < 0x10000) {
        out[0] = (char)(0xE0 | r >> 12);
        out[1] = (char)(0x80 | (r >> 6 & 0x3F));
        out[2] = (char)(0x80 | (r & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | r >> 18);
    out[1] = (char)(0x80 | (r >> 12 & 0x3F));
    out[2] = (char)(0x80 | (r >> 6 & 0x3F));
    out[3] = (char)(0x80 | (r & 0x3F));
    return 4;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One escape; the lexer has seen to its form, but a caller's text may come from elsewhere. */
static const char *unescape(const char *s, const char *end, char **out)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    const char *plain;
    uint32_t    x = 0;
    int         digits;
    char        c = *s++;

    if (c != '\0' && (plain = strchr(from, c)) != NULL) {
        *(*out)++ = to[plain - from];
        return s;
    }
    if (c >= '0' && c <= '7') {
        if (end - s < 2)
            return NULL;
        x = (uint32_t)(c - '0') * 64 + (uint32_t)((s[0] - '0') & 7) * 8 + (uint32_t)((s[1] - '0') & 7);
        *(*out)++ = (char)x;
        return s + 2;
    }
    digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0 || end - s < digits)
        return NULL;
    for (int i = 0; i < digits; i++) {
        int d = hex_value(s[i]);
        if (d < 0)
            return NULL;
        x = x * 16 + (uint32_t)d;
    }
    if (x > 0x10FFFF)
        return NULL;
    if (c == 'x')
        *(*out)++ = (char)x;
    else
        *out += pql_put_rune(*out, x);
    return s + digits;
}

bool pql_unquote(struct kl_span quoted, struct kl_arena *arena, struct kl_span *out)
{
    const char *s = quoted.at, *end = s + quoted.size;
    char        quote, *to, *begin;

    if (quoted.size < 2 || end[-1] != s[0])
        return false;
    quote = *s++;
    end--;
    if (quote == '`' || memchr(s, '\\', (size_t)(end - s)) == NULL) {
        *out = kl_span(s, (size_t)(end - s));
        return true;
    }
    begin = to = kl_arena_alloc(arena, quoted.size);
    if (begin == NULL)
        return false;
    while (s < end) {
        if (*s != '\\') {
            *to++ = *s++;
            continue;
        }
        if (++s >= end || (s = unescape(s, end, &to)) == NULL)
            return false;
    }
    *out = kl_span(begin, (size_t)(to - begin));
    return true;
}

/* Unicode's unprintables that occur: controls, odd spaces, format characters, private use. */
static bool printable(int32_t r)
{
    static const struct { int32_t from, to; } hidden[] = {
        { 0, 0x1F }, { 0x7F, 0xA0 }, { 0xAD, 0xAD }, { 0x600, 0x605 }, { 0x61C, 0x61C },
        { 0x6DD, 0x6DD }, { 0x70F, 0x70F }, { 0x1680, 0x1680 }, { 0x180E, 0x180E },
        { 0x2000, 0x200F }, { 0x2028, 0x202F }, { 0x205F, 0x206F }, { 0x3000, 0x3000 },
        { 0xD800, 0xF8FF }, { 0xFEFF, 0xFEFF }, { 0xFFF0, 0xFFFB }, { 0xFFFE, 0xFFFF },
        { 0xE0000, 0x10FFFF },
    };

    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (r >= hidden[i].from && r <= hidden[i].to)
            return false;
    return true;
}

static void quote_one(struct kl_buf *out, int32_t r, char quote)
{
    static const char from[] = "\a\b\f\n\r\t\v", to[] = "abfnrtv";
    const char *short_form;
    char        bytes[4];

    if (r == quote || r == '\\')
        kl_buf_addf(out, "\\%c", (int)r);
    else if (printable(r))
        kl_buf_add(out, bytes, (size_t)pql_put_rune(bytes, (uint32_t)r));
    else if (r != 0 && r < 0x20 && (short_form = strchr(from, r)) != NULL)
        kl_buf_addf(out, "\\%c", to[short_form - from]);
    else if (r < 0x20 || r == 0x7F)
        kl_buf_addf(out, "\\x%02x", (unsigned)r);
    else
        kl_buf_addf(out, r < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)r);
}

void pql_quote(struct kl_buf *out, struct kl_span s)
{
    const char *at = s.at, *end = at + s.size;
    int         width;

    kl_buf_add8(out, '"');
    for (; at < end; at += width) {
        int32_t r = pql_rune(at, end, &width);
        if (r == 0xFFFD && width == 1)
            kl_buf_addf(out, "\\x%02x", (unsigned)(uint8_t)*at);
        else
            quote_one(out, r, '"');
    }
    kl_buf_add8(out, '"');
}

void pql_quote_rune(struct kl_buf *out, int32_t rune)
{
    kl_buf_add8(out, '\'');
    quote_one(out, rune < 0 ? 0xFFFD : rune, '\'');
    kl_buf_add8(out, '\'');
}

/* The fewest digits that read back as `v`: "d.ddde±xx". */
static void shortest(double v, char text[40])
{
    for (int digits = 0; digits < 17; digits++) {
        snprintf(text, 40, "%.*e", digits, v);
        if (strtod(text, NULL) == v)
            return;
    }
}

static bool special(struct kl_buf *out, double v)
{
    if (isfinite(v))
        return false;
    kl_buf_adds(out, isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf");
    return true;
}

static void plain(struct kl_buf *out, double v)
{
    char text[KL_F64_TEXT_MAX];

    kl_buf_add(out, text, kl_f64_text(v, text));
}

void pql_fmt_g(struct kl_buf *out, double v)
{
    char text[40];
    int  exponent;

    if (special(out, v))
        return;
    shortest(v, text);
    exponent = v == 0 ? 0 : atoi(strchr(text, 'e') + 1);
    /* Go's rule for the shortest form: an exponent below -4 and from 6 on. */
    if (exponent < -4 || exponent >= 6)
        kl_buf_adds(out, text);
    else
        plain(out, v);
}

void pql_fmt_json(struct kl_buf *out, double v)
{
    char text[40];

    if (v != 0 && isfinite(v) && (fabs(v) < 1e-6 || fabs(v) >= 1e21)) {
        shortest(v, text);
        kl_buf_adds(out, text);
    } else {
        plain(out, v);
    }
}

static const struct { const char *unit; int64_t ms; bool exact; } units[] = {
    { "y", 365 * 86400000ll, true }, { "w", 7 * 86400000ll, true }, { "d", 86400000, false },
    { "h", 3600000, false }, { "m", 60000, false }, { "s", 1000, false }, { "ms", 1, false },
};
enum { UNITS = sizeof units / sizeof *units };

void pql_fmt_ms(struct kl_buf *out, int64_t ms)
{
    if (ms == 0) {
        kl_buf_adds(out, "0s");
        return;
    }
    for (int i = 0; i < UNITS; i++) {
        if ((units[i].exact && ms % units[i].ms != 0) || ms / units[i].ms <= 0)
            continue;
        kl_buf_addf(out, "%lld%s", (long long)(ms / units[i].ms), units[i].unit);
        ms %= units[i].ms;
    }
}

static bool known_unit(const char *s, size_t size)
{
    for (int i = 0; i < UNITS; i++)
        if (strlen(units[i].unit) == size && memcmp(units[i].unit, s, size) == 0)
            return true;
    return false;
}

const char *pql_duration_ms(struct kl_span text, int64_t *ms)
{
    const char *s = text.at, *end = s + text.size;
    int64_t     total = 0;
    int         unit = 0;

    if (text.size == 0)
        return "empty duration string";
    if (text.size == 1 && *s == '0')
        return *ms = 0, NULL;
    while (s < end) {
        const char *begin = s;
        int64_t     n = 0, part;
        bool        over = false;

        for (; s < end && *s >= '0' && *s <= '9'; s++)
            over |= __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *s - '0', &n);
        if (s == begin)
            return "not a valid duration string";
        for (begin = s; s < end && !(*s >= '0' && *s <= '9'); s++)
            ;
        if (s == begin)
            return "not a valid duration string";
        if (!known_unit(begin, (size_t)(s - begin)))
            return "unknown unit";
        while (unit < UNITS && !(strlen(units[unit].unit) == (size_t)(s - begin)
                                 && memcmp(units[unit].unit, begin, (size_t)(s - begin)) == 0))
            unit++;
        if (unit == UNITS)
            return "not a valid duration string";
        if (over || __builtin_mul_overflow(n, units[unit].ms, &part)
            || __builtin_add_overflow(total, part, &total) || total > INT64_MAX / 1000000)
            return "duration out of range";
        unit++;
    }
    *ms = total;
    return NULL;
}

/* Digits of `base`, without underscores. Says no on any other byte or past INT64_MAX. */
static bool parse_int(const char *s, unsigned base, double *value)
{
    int64_t n = 0;

    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        int d = hex_value(*s);
        if (d < 0 || (unsigned)d >= base || __builtin_mul_overflow(n, (int64_t)base, &n)
            || __builtin_add_overflow(n, (int64_t)d, &n))
            return false;
    }
    *value = (double)n;
    return true;
}

const char *pql_number(struct kl_span text, double *value)
{
    char        copy[512], *end;
    const char *s = text.at;
    size_t      n = 0;
    unsigned    base = 10, skip = 0;

    if (text.size == 0 || text.size >= sizeof copy)
        return "invalid syntax";
    for (size_t i = 0; i < text.size; i++)
        if (s[i] != '_')
            copy[n++] = s[i];
    copy[n] = '\0';
    if (copy[0] == '0' && n > 1) {
        char c = copy[1] | 32;
        if (c == 'x' || c == 'b' || c == 'o')
            base = c == 'x' ? 16 : c == 'b' ? 2 : 8, skip = 2;
        else
            base = 8, skip = 1;
    }
    if (parse_int(copy + skip, base, value))
        return NULL;
    if (base == 16 && strpbrk(copy, "pP") == NULL)
        return "invalid syntax";
    errno = 0;
    *value = strtod(copy, &end);
    if (*end != '\0' || end == copy)
        return "invalid syntax";
    return errno == ERANGE && isinf(*value) ? "value out of range" : NULL;
}

bool pql_legacy_name(struct kl_span name)
{
    const char *s = name.at;

    for (size_t i = 0; i < name.size; i++)
        if (!(s[i] == '_' || (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z')
              || (i > 0 && s[i] >= '0' && s[i] <= '9')))
            return false;
    return name.size > 0;
}

void pql_position(struct kl_span text, int32_t at, struct kl_buf *out)
{
    const char *s = text.at;
    int32_t     line = 1, last = -1;

    if (text.size == 0) {
        kl_buf_adds(out, "unknown position");
        return;
    }
    if (at < 0 || (size_t)at > text.size) {
        kl_buf_adds(out, "invalid position");
        return;
    }
    for (int32_t i = 0; i < at; i++)
        if (s[i] == '\n')
            line++, last = i;
    kl_buf_addf(out, "%d:%d", line, at - last);
}
