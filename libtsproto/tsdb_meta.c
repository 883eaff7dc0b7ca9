/*
 * meta.json, and the tombstones. Of the former what matters here is picked out by its place among the
 * nested objects; all else is passed over, whatever it is.
 */
#include "libtsproto/tsdb_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

struct scan {
    const char    *at, *end, *why;                     /* why: what is wrong, static */
    struct tsp_tsdb_meta *m;
    struct kl_buf  text;                               /* the last string, without its escapes */
    unsigned       depth;
    uint64_t       version;
};

static bool stop(struct scan *s, const char *why)
{
    if (s->why == NULL)
        s->why = why;
    return false;
}

static char next(struct scan *s)                       /* the next that is no blank; '\0' at the end */
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\r' || *s->at == '\n'))
        s->at++;
    return s->at < s->end ? *s->at : '\0';
}

static bool punct(struct scan *s, char c)
{
    if (next(s) != c)
        return false;
    s->at++;
    return true;
}

static void put_utf8(struct kl_buf *b, uint32_t c)
{
    if (c < 0x80) {
        kl_buf_add8(b, (uint8_t)c);
    } else if (c < 0x800) {
        kl_buf_add8(b, (uint8_t)(0xc0 | c >> 6));
        kl_buf_add8(b, (uint8_t)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        kl_buf_add8(b, (uint8_t)(0xe0 | c >> 12));
        kl_buf_add8(b, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        kl_buf_add8(b, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        kl_buf_add8(b, (uint8_t)(0xf0 | c >> 18));
        kl_buf_add8(b, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        kl_buf_add8(b, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        kl_buf_add8(b, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

static bool hex4(struct scan *s, uint32_t *c)
{
    *c = 0;
    for (unsigned i = 0; i < 4; i++, s->at++) {
        if (s->at == s->end || !isxdigit((unsigned char)*s->at))
            return stop(s, "an escape that is none");
        *c = *c << 4 | (uint32_t)(isdigit((unsigned char)*s->at) ? *s->at - '0' : (*s->at | 32) - 'a' + 10);
    }
    return true;
}

static bool escape(struct scan *s)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char       *which;
    uint32_t          c, low;

    if (s->at == s->end)
        return stop(s, "a string without an end");
    if (*s->at != 'u') {
        which = *s->at != '\0' ? strchr(from, *s->at) : NULL;
        if (which == NULL)
            return stop(s, "an escape that is none");
        kl_buf_add8(&s->text, (uint8_t)to[which - from]);
        s->at++;
        return true;
    }
    s->at++;
    if (!hex4(s, &c))
        return false;
    if (c >= 0xd800 && c < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u') {
        s->at += 2;
        if (!hex4(s, &low))
            return false;
        c = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
    }
    put_utf8(&s->text, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
    return true;
}

/* Into s->text, with a NUL behind it that does not count. */
static bool string(struct scan *s)
{
    if (!punct(s, '"'))
        return stop(s, "something else where a string should be");
    kl_buf_reset(&s->text);
    while (s->at < s->end && *s->at != '"') {
        char c = *s->at++;

        if (c == '\\') {
            if (!escape(s))
                return false;
        } else {
            kl_buf_add8(&s->text, (uint8_t)c);
        }
    }
    if (s->at == s->end)
        return stop(s, "a string without an end");
    s->at++;
    kl_buf_add8(&s->text, 0);
    s->text.size--;
    return memchr(s->text.at, 0, s->text.size) == NULL || stop(s, "a string with a NUL");
}

/* Integers are taken; of other numbers, and words, only the end is found. */
static bool scalar(struct scan *s, int64_t *v, bool *is_int)
{
    char  word[40];
    char *end;
    size_t n = 0;

    while (s->at < s->end && (isalnum((unsigned char)*s->at) || strchr("+-.", *s->at) != NULL) &&
           *s->at != '\0') {
        if (n + 1 < sizeof word)
            word[n++] = *s->at;
        s->at++;
    }
    word[n] = '\0';
    if (n == 0)
        return stop(s, "something that is no JSON");
    errno = 0;
    *v = strtoll(word, &end, 10);
    *is_int = *end == '\0' && errno == 0;
    return true;
}

enum place { OTHER, TOP, STATS, THANOS, OUTER, DOWNSAMPLE };

static enum place place_of(enum place in, const char *name)
{
    if (in == TOP)
        return strcmp(name, "stats") == 0 ? STATS : strcmp(name, "thanos") == 0 ? THANOS : OTHER;
    if (in == THANOS)
        return strcmp(name, "labels") == 0 ? OUTER : strcmp(name, "downsample") == 0 ? DOWNSAMPLE : OTHER;
    return OTHER;
}

static bool number(struct scan *s, enum place in, const char *name, int64_t v)
{
    struct tsp_tsdb_meta *m = s->m;

    if (in == TOP && strcmp(name, "version") == 0)
        s->version = (uint64_t)v;
    else if (in == TOP && strcmp(name, "minTime") == 0)
        m->min_ms = v;
    else if (in == TOP && strcmp(name, "maxTime") == 0)
        m->max_ms = v;
    else if (in == STATS && strcmp(name, "numSeries") == 0)
        m->series = (uint64_t)v;
    else if (in == STATS && strcmp(name, "numSamples") == 0)
        m->samples = (uint64_t)v;
    else if (in == STATS && strcmp(name, "numChunks") == 0)
        m->chunks = (uint64_t)v;
    else if (in == DOWNSAMPLE && strcmp(name, "resolution") == 0)
        m->resolution_ms = v;
    return true;
}

static bool word(struct scan *s, enum place in, const char *name)
{
    struct tsp_tsdb_meta *m = s->m;

    if (in == TOP && strcmp(name, "ulid") == 0) {
        if (s->text.size != TSP_TSDB_ULID || strspn(s->text.at, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != TSP_TSDB_ULID)
            return stop(s, "a \"ulid\" that is none");
        memcpy(m->ulid, s->text.at, TSP_TSDB_ULID + 1);
    } else if (in == OUTER) {
        if (m->outer_count == TSP_TSDB_OUTER_MAX)
            return stop(s, "more labels in \"thanos\" than can be");
        m->outer[m->outer_count].name = kl_strdup(name);
        m->outer[m->outer_count++].value = kl_strdup(s->text.at);
    }
    return true;
}

static bool value(struct scan *s, enum place in, const char *name);

static bool object(struct scan *s, enum place in)
{
    if (++s->depth > TSP_TSDB_DEPTH_MAX)
        return stop(s, "objects nested too deep");
    s->at++;
    if (!punct(s, '}'))
        do {
            char *name;
            bool  good;

            if (!string(s))
                return false;
            name = kl_strdup(s->text.at);
            good = punct(s, ':') ? value(s, in, name) : stop(s, "no colon behind a name");
            free(name);
            if (!good)
                return false;
        } while (punct(s, ','));
    else
        s->at--;
    s->depth--;
    return punct(s, '}') || stop(s, "an object without an end");
}

static bool array(struct scan *s)
{
    if (++s->depth > TSP_TSDB_DEPTH_MAX)
        return stop(s, "arrays nested too deep");
    s->at++;
    if (next(s) != ']')
        do {
            if (!value(s, OTHER, ""))
                return false;
        } while (punct(s, ','));
    s->depth--;
    return punct(s, ']') || stop(s, "an array without an end");
}

static bool value(struct scan *s, enum place in, const char *name)
{
    int64_t v;
    bool    is_int;

    switch (next(s)) {
    case '{': return object(s, place_of(in, name));
    case '[': return array(s);
    case '"': return string(s) && word(s, in, name);
    default:  return scalar(s, &v, &is_int) && (!is_int || number(s, in, name, v));
    }
}

void tsp_tsdb_meta_deinit(struct tsp_tsdb_meta *m)
{
    for (uint32_t i = 0; i < m->outer_count; i++) {
        free(m->outer[i].name);
        free(m->outer[i].value);
    }
    *m = (struct tsp_tsdb_meta){ 0 };
}

enum kl_code tsp_tsdb_meta_read(struct kl_span bytes, struct tsp_tsdb_meta *out, struct kl_err *err)
{
    struct tsp_tsdb_meta m = { 0 };
    struct scan          s = { .at = bytes.at, .m = &m };

    if (bytes.size == 0 || bytes.size > TSP_TSDB_META_MAX)
        return kl_fail(err, KL_ECORRUPT, "meta.json of %zu bytes", bytes.size);
    s.end = s.at + bytes.size;
    if (next(&s) != '{')
        stop(&s, "no object");
    else if (object(&s, TOP) && next(&s) != '\0')
        stop(&s, "something behind its end");
    kl_buf_deinit(&s.text);
    if (s.why == NULL && s.version != 1)
        s.why = "a version that is not 1";
    else if (s.why == NULL && m.ulid[0] == '\0')
        s.why = "no \"ulid\"";
    else if (s.why == NULL && m.min_ms > m.max_ms)
        s.why = "a \"minTime\" after its \"maxTime\"";
    if (s.why != NULL) {
        tsp_tsdb_meta_deinit(&m);
        return kl_fail(err, KL_ECORRUPT, "meta.json holds %s", s.why);
    }
    *out = m;
    return KL_OK;
}

/* ---- tombstones ---- */

static int by_series(const void *a, const void *b)
{
    const struct tsp_tsdb_stone *x = a, *y = b;

    if (x->series != y->series)
        return x->series < y->series ? -1 : 1;
    return x->from_ms < y->from_ms ? -1 : x->from_ms > y->from_ms;
}

enum kl_code tsp_tsdb_stones_read(struct kl_span bytes, struct tsp_tsdb_stone **stones, size_t *count,
                                  struct kl_err *err)
{
    const uint8_t         *at = bytes.at;
    struct kl_cur          c;
    struct tsp_tsdb_stone *s = NULL;
    size_t                 n = 0, room = 0;

    if (bytes.size < 9 || tsp_tsdb_be32(at) != 0x0130ba30 || at[4] != 1)
        return kl_fail(err, KL_ECORRUPT, "is no file of tombstones, or of a version that is not 1");
    if (tsp_tsdb_checked(at + 5, bytes.size - 9, "list of tombstones", err) != KL_OK)
        return err->code;
    c = kl_cur(at + 5, bytes.size - 9);
    while (kl_cur_left(&c) > 0 && n < TSP_TSDB_STONES_MAX) {
        struct tsp_tsdb_stone x = { .series = kl_cur_v(&c) };

        x.from_ms = kl_cur_z(&c);
        x.to_ms = kl_cur_z(&c);
        if (c.bad)
            break;
        if (n == room) {
            room = room == 0 ? 16 : room * 2;
            s = kl_resize(s, room * sizeof *s);
        }
        s[n++] = x;
    }
    if (c.bad || kl_cur_left(&c) > 0) {
        free(s);
        return c.bad ? kl_fail(err, KL_ECORRUPT, "tombstones are cut short")
                     : kl_fail(err, KL_ELIMIT, "more than %d tombstones", TSP_TSDB_STONES_MAX);
    }
    if (n > 0)
        qsort(s, n, sizeof *s, by_series);
    *stones = s;
    *count = n;
    return KL_OK;
}
