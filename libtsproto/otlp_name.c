/* Names of metrics, labels and units. */
#include "libtsproto/otlp_labels.h"

#include <string.h>

#include "libkoal/base/buf.h"

enum { NAME_MAX_BYTES = 32768, TOKENS_MAX = 512 };

const char *const tsp_otlp_naming_names[TSP_OTLP_NAMINGS] = {
    [TSP_OTLP_ESCAPED_SUFFIXED] = "UnderscoreEscapingWithSuffixes",
    [TSP_OTLP_ESCAPED] = "UnderscoreEscapingWithoutSuffixes",
    [TSP_OTLP_UTF8_SUFFIXED] = "NoUTF8EscapingWithSuffixes",
    [TSP_OTLP_AS_SENT] = "NoTranslation",
};

/* UCUM's units in Prometheus' words, as Prometheus 3 writes them (tibibytes too). */
static const struct { const char *ucum, *word; } units[] = {
    { "s", "seconds" }, { "ms", "milliseconds" }, { "us", "microseconds" }, { "ns", "nanoseconds" },
    { "min", "minutes" }, { "h", "hours" }, { "d", "days" },
    { "By", "bytes" }, { "KiBy", "kibibytes" }, { "MiBy", "mebibytes" }, { "GiBy", "gibibytes" },
    { "TiBy", "tibibytes" }, { "KBy", "kilobytes" }, { "MBy", "megabytes" }, { "GBy", "gigabytes" },
    { "TBy", "terabytes" },
    { "m", "meters" }, { "g", "grams" }, { "V", "volts" }, { "A", "amperes" }, { "J", "joules" },
    { "W", "watts" }, { "Hz", "hertz" }, { "Cel", "celsius" }, { "%", "percent" }, { "1", "" },
}, per_units[] = {
    { "s", "second" }, { "m", "minute" }, { "h", "hour" }, { "d", "day" }, { "w", "week" },
    { "mo", "month" }, { "y", "year" },
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_plain(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c); }

static bool escapes(const struct tsp_otlp_settings *o)
{
    return o->naming == TSP_OTLP_ESCAPED_SUFFIXED || o->naming == TSP_OTLP_ESCAPED;
}
static bool suffixes(const struct tsp_otlp_settings *o)
{
    return o->naming == TSP_OTLP_ESCAPED_SUFFIXED || o->naming == TSP_OTLP_UTF8_SUFFIXED;
}

static enum kl_code no_room(struct kl_err *err) { return kl_fail(err, KL_ELIMIT, "no room for a name"); }

static struct kl_span trimmed(struct kl_span s)
{
    const char *at = s.at;

    while (s.size > 0 && strchr(" \t\r\n", at[0]) != NULL) {
        at++;
        s.size--;
    }
    while (s.size > 0 && strchr(" \t\r\n", at[s.size - 1]) != NULL)
        s.size--;
    return kl_span(at, s.size);
}

/* A part of a unit in words; one in braces is a remark, and no unit. */
static struct kl_span unit_word(struct kl_span part, bool per)
{
    size_t count = per ? sizeof per_units / sizeof *per_units : sizeof units / sizeof *units;

    part = trimmed(part);
    if (part.size == 0 || memchr(part.at, '{', part.size) != NULL ||
        memchr(part.at, '}', part.size) != NULL)
        return kl_span("", 0);
    for (size_t i = 0; i < count; i++) {
        const char *ucum = per ? per_units[i].ucum : units[i].ucum;
        if (kl_span_eq(part, kl_span_str(ucum)))
            return kl_span_str(per ? per_units[i].word : units[i].word);
    }
    return part;
}

/* "By/s" in its two halves, each in words, "per_" not included. */
static void split_unit(struct kl_span unit, struct kl_span *main_word, struct kl_span *per_word)
{
    const char *slash = unit.size > 0 ? memchr(unit.at, '/', unit.size) : NULL;
    size_t      first = slash == NULL ? unit.size : (size_t)(slash - (const char *)unit.at);

    *main_word = unit_word(kl_span(unit.at, first), false);
    *per_word = slash == NULL ? kl_span("", 0)
                              : unit_word(kl_span(slash + 1, unit.size - first - 1), true);
}

/* The word with every run of other characters as one '_', none in front, and none behind. */
static enum kl_code clean(struct kl_span word, struct kl_arena *arena, const char *before,
                          struct kl_span *out, struct kl_err *err)
{
    const char *in = word.at;
    size_t      n = strlen(before), start = n;
    char       *at = kl_arena_alloc(arena, n + word.size + 1);

    if (at == NULL)
        return no_room(err);
    memcpy(at, before, n);
    for (size_t i = 0; i < word.size; i++) {
        bool plain = is_plain(in[i]) || in[i] == ':';
        if (plain)
            at[n++] = in[i];
        else if (n > start && at[n - 1] != '_')
            at[n++] = '_';
    }
    while (n > start && at[n - 1] == '_')
        n--;
    *out = n == start ? kl_span("", 0) : kl_span(at, n);
    return KL_OK;
}

enum kl_code tsp_otlp_unit_name(struct kl_span unit, struct kl_arena *arena, struct kl_span *name,
                                struct kl_err *err)
{
    struct kl_span main_word, per_word;
    char          *at;

    split_unit(unit, &main_word, &per_word);
    if (clean(main_word, arena, "", &main_word, err) != KL_OK ||
        clean(per_word, arena, "per_", &per_word, err) != KL_OK)
        return err->code;
    if (main_word.size == 0 || per_word.size == 0) {
        *name = main_word.size > 0 ? main_word : per_word;
        return KL_OK;
    }
    at = kl_arena_alloc(arena, main_word.size + 1 + per_word.size);
    if (at == NULL)
        return no_room(err);
    memcpy(at, main_word.at, main_word.size);
    at[main_word.size] = '_';
    memcpy(at + main_word.size + 1, per_word.at, per_word.size);
    *name = kl_span(at, main_word.size + 1 + per_word.size);
    return KL_OK;
}

/* ---- metric names, escaped: of tokens, joined by '_' ---- */

struct tokens { size_t count; struct kl_span at[TOKENS_MAX + 4]; };

static bool has(const struct tokens *t, struct kl_span token)
{
    for (size_t i = 0; i < t->count; i++)
        if (kl_span_eq(t->at[i], token))
            return true;
    return false;
}

static void drop(struct tokens *t, struct kl_span token)
{
    size_t kept = 0;

    for (size_t i = 0; i < t->count; i++)
        if (!kl_span_eq(t->at[i], token))
            t->at[kept++] = t->at[i];
    t->count = kept;
}

/* Splits at what is no plain character; without suffixes an underscore is one. */
static enum kl_code split(struct kl_span name, bool keep_underscores, struct tokens *t, struct kl_err *err)
{
    const char *at = name.at;
    size_t      begin = 0;

    t->count = 0;
    for (size_t i = 0; i <= name.size; i++) {
        if (i < name.size && (is_plain(at[i]) || at[i] == ':' || (at[i] == '_' && keep_underscores)))
            continue;
        if (i > begin) {
            if (t->count == TOKENS_MAX)
                return kl_fail(err, KL_ELIMIT, "a metric name of more than %d parts", TOKENS_MAX);
            t->at[t->count++] = kl_span(at + begin, i - begin);
        }
        begin = i + 1;
    }
    return KL_OK;
}

static enum kl_code join(const struct tokens *t, struct kl_arena *arena, struct kl_span *name,
                         struct kl_err *err)
{
    size_t size = t->count + 1, n = 0;
    bool   any = false;
    char  *at;

    for (size_t i = 0; i < t->count; i++)
        size += t->at[i].size;
    at = kl_arena_alloc(arena, size);
    if (at == NULL)
        return no_room(err);
    if (t->count > 0 && is_digit(*(const char *)t->at[0].at))
        at[n++] = '_';
    for (size_t i = 0; i < t->count; i++) {
        if (i > 0)
            at[n++] = '_';
        memcpy(at + n, t->at[i].at, t->at[i].size);
        n += t->at[i].size;
    }
    for (size_t i = 0; i < n; i++)
        any = any || at[i] != '_';
    *name = kl_span(at, n);
    return any ? KL_OK : kl_fail(err, KL_EINVAL, "a metric name of which nothing is left");
}

static enum kl_code escaped(const struct tsp_otlp_metric *m, bool suffixed, struct kl_arena *arena,
                            struct kl_span *name, struct kl_err *err)
{
    static const struct kl_span total = { "total", 5 }, ratio = { "ratio", 5 };
    struct tokens  t;
    struct kl_span main_word, per_word;

    if (split(m->name, !suffixed, &t, err) != KL_OK)
        return err->code;
    if (suffixed) {
        split_unit(m->unit, &main_word, &per_word);
        if (clean(main_word, arena, "", &main_word, err) != KL_OK ||
            clean(per_word, arena, "per_", &per_word, err) != KL_OK)
            return err->code;
        if (main_word.size > 0 && !has(&t, main_word))
            t.at[t.count++] = main_word;
        if (per_word.size > 0 && !has(&t, per_word))
            t.at[t.count++] = per_word;
        if (m->kind == TSP_OTLP_SUM && m->monotonic) {
            drop(&t, total);
            t.at[t.count++] = total;
        }
        if (m->kind == TSP_OTLP_GAUGE && kl_span_eq(m->unit, kl_span("1", 1))) {
            drop(&t, ratio);
            t.at[t.count++] = ratio;
        }
    }
    return join(&t, arena, name, err);
}

/* ---- and as sent, with suffixes ---- */

static bool ends_with(struct kl_span s, struct kl_span tail)
{
    return s.size >= tail.size &&
           memcmp((const char *)s.at + s.size - tail.size, tail.at, tail.size) == 0;
}

/* Without that ending and the character before it, when something is left. */
static void cut_off(struct kl_span *name, struct kl_span tail)
{
    if (ends_with(*name, tail) && name->size > tail.size + 1)
        name->size -= tail.size + 1;
}

static enum kl_code suffixed_utf8(const struct tsp_otlp_metric *m, struct kl_arena *arena,
                                  struct kl_span *out, struct kl_err *err)
{
    static const struct kl_span total = { "total", 5 }, ratio = { "ratio", 5 };
    bool is_total = m->kind == TSP_OTLP_SUM && m->monotonic;
    bool is_ratio = m->kind == TSP_OTLP_GAUGE && kl_span_eq(m->unit, kl_span("1", 1));
    struct kl_span name = m->name, main_word, per_word, per;
    char  *at, *per_at;
    size_t n;

    split_unit(m->unit, &main_word, &per_word);
    at = kl_arena_alloc(arena, name.size + main_word.size + per_word.size + 24);
    per_at = kl_arena_alloc(arena, per_word.size + 4);
    if (at == NULL || per_at == NULL)
        return no_room(err);
    memcpy(per_at, "per_", 4);
    memcpy(per_at + 4, per_word.at, per_word.size);
    per = kl_span(per_at, per_word.size + 4);

    if (is_ratio)
        cut_off(&name, ratio);
    if (is_total)
        cut_off(&name, total);
    if (per_word.size > 0)
        cut_off(&name, per);
    if (main_word.size > 0 && ends_with(name, main_word))
        main_word.size = 0;
    n = name.size;
    if (n > 0)
        memcpy(at, name.at, n);
    for (int i = 0; i < 4; i++) {
        struct kl_span part = i == 0 ? main_word : i == 1 ? per : i == 2 ? total : ratio;
        if (i == 0 ? main_word.size == 0 : i == 1 ? per_word.size == 0 : i == 2 ? !is_total : !is_ratio)
            continue;
        at[n++] = '_';
        memcpy(at + n, part.at, part.size);
        n += part.size;
    }
    *out = kl_span(at, n);
    return KL_OK;
}

enum kl_code tsp_otlp_metric_name(const struct tsp_otlp_settings *o, const struct tsp_otlp_metric *m,
                                  struct kl_arena *arena, struct kl_span *name, struct kl_err *err)
{
    if (m->name.size == 0)
        return kl_fail(err, KL_EINVAL, "a metric without a name");
    if (m->name.size > NAME_MAX_BYTES || m->unit.size > NAME_MAX_BYTES)
        return kl_fail(err, KL_ELIMIT, "a metric name of %zu bytes, with a unit of %zu", m->name.size,
                       m->unit.size);
    if (escapes(o))
        return escaped(m, suffixes(o), arena, name, err);
    if (suffixes(o))
        return suffixed_utf8(m, arena, name, err);
    *name = m->name;
    return KL_OK;
}

/* Character by character, not byte by byte: what lies outside ASCII is one '_'. */
enum kl_code tsp_otlp_label_name(const struct tsp_otlp_settings *o, struct kl_span key,
                                 struct kl_arena *arena, struct kl_span *name, struct kl_err *err)
{
    const char *in = key.at;
    bool        any = false, fit = true;
    size_t      n = 0;
    char       *at;

    if (key.size == 0)
        return kl_fail(err, KL_EINVAL, "an attribute without a name");
    if (key.size > NAME_MAX_BYTES)
        return kl_fail(err, KL_ELIMIT, "an attribute's name of %zu bytes", key.size);
    *name = key;
    for (size_t i = 0; i < key.size; i++) {
        any = any || is_plain(in[i]);
        fit = fit && (is_plain(in[i]) || in[i] == '_');
    }
    if (!escapes(o) || (fit && !is_digit(in[0]) && (in[0] != '_' || (key.size > 1 && in[1] == '_'))))
        return KL_OK;
    if (!any && !fit)
        return kl_fail(err, KL_EINVAL, "an attribute's name of which nothing is left");
    at = kl_arena_alloc(arena, key.size + 4);
    if (at == NULL)
        return no_room(err);
    for (size_t i = 0; i < key.size; i++) {
        if (((uint8_t)in[i] & 0xc0) == 0x80)
            continue;                                  /* inside a character */
        at[4 + n++] = is_plain(in[i]) || in[i] == '_' ? in[i] : '_';
    }
    if (is_digit(at[4])) {
        memcpy(at, "key_", 4);
        *name = kl_span(at, n + 4);
    } else if (at[4] == '_' && !(n > 1 && at[5] == '_')) {
        memcpy(at + 1, "key", 3);
        *name = kl_span(at + 1, n + 3);
    } else {
        *name = kl_span(at + 4, n);
    }
    return KL_OK;
}
