#include "libkoal/base/match.h"

#include "libkoal/base/re2_priv.h"
#include "libkoal/base/regex_size.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/*
 * A pattern is looked at before RE2 is: where it is a finite set of literals, or a literal between
 * `.*`s or `.+`s, matching is a comparison. Only the plainest syntax is recognised; at the first doubt
 * the pattern is RE2's. RE2 also judges whether a pattern is one at all, except for patterns that
 * are recognised whole, which are always valid.
 */
enum { SET_MAX = 256, SET_BYTES_MAX = 64 * 1024, NEST_MAX = 8 };
enum kind { SET, AROUND, OTHER };                      /* AROUND: [.*|.+] literal [.*|.+] */
enum wild { NONE, ANY, SOME };                         /* nothing, .*, .+ */

struct kl_regex {
    enum kind        kind;
    char            *pattern;
    size_t           pattern_size;
    struct kl_span  *set;                              /* sorted, each once */
    size_t           set_count;
    struct kl_buf    bytes;                            /* what set and literal point into */
    enum wild        before, after;
    struct kl_span   literal, prefix;
    _Atomic(struct kl_re2 *) re2;                      /* made at once for OTHER, else when asked */
};

/* ---- recognising a finite set ---- */

struct words { size_t count; struct kl_buf text[SET_MAX]; };

static void words_free(struct words *w)
{
    for (size_t i = 0; i < w->count; i++)
        kl_buf_deinit(&w->text[i]);
    free(w);
}

static struct words *words_one(void)                   /* the set of the empty word */
{
    struct words *w = kl_new(sizeof *w);

    w->count = 1;
    return w;
}

static bool is_special(uint8_t c) { return c != 0 && strchr("\\.+*?()|[]{}^$", c) != NULL; }

static struct words *alternatives(struct kl_cur *c, unsigned depth);

/* Every word of `a` followed by every word of `b`; frees both. NULL past the bounds. */
static struct words *product(struct words *a, struct words *b)
{
    struct words *w = NULL;
    size_t        bytes = 0;

    if (a->count * b->count <= SET_MAX) {
        w = kl_new(sizeof *w);
        for (size_t i = 0; i < a->count; i++)
            for (size_t k = 0; k < b->count; k++) {
                struct kl_buf *t = &w->text[w->count++];
                kl_buf_add(t, a->text[i].at, a->text[i].size);
                kl_buf_add(t, b->text[k].at, b->text[k].size);
                bytes += t->size;
            }
    }
    words_free(a);
    words_free(b);
    if (w != NULL && bytes > SET_BYTES_MAX) {
        words_free(w);
        w = NULL;
    }
    return w;
}

static struct words *group(struct kl_cur *c, unsigned depth)
{
    struct words *w;

    c->at++;                                           /* the parenthesis */
    if (kl_cur_left(c) >= 2 && c->at[0] == '?' && c->at[1] == ':')
        c->at += 2;                                    /* other `(?`: '?' is special below */
    w = alternatives(c, depth + 1);
    if (w != NULL && (c->at == c->end || *c->at != ')')) {
        words_free(w);
        return NULL;
    }
    if (w != NULL)
        c->at++;
    return w;
}

/* A run of literals and groups, up to '|', ')' or the end. */
static struct words *sequence(struct kl_cur *c, unsigned depth)
{
    struct words *w = words_one();
    size_t        bytes = 0;                           /* appended here; product bounds its own */

    while (w != NULL && c->at < c->end && *c->at != '|' && *c->at != ')') {
        if (*c->at == '(') {
            struct words *g = depth < NEST_MAX ? group(c, depth) : NULL;
            if (g == NULL) {
                words_free(w);
                return NULL;
            }
            w = product(w, g);
        } else {
            uint8_t b = *c->at++;
            if (b == '\\' && c->at < c->end && is_special(*c->at))
                b = *c->at++;
            else if (is_special(b)) {
                words_free(w);
                return NULL;
            }
            for (size_t i = 0; i < w->count; i++) {
                kl_buf_add8(&w->text[i], b);
                bytes++;
            }
        }
        bool repeated = c->at < c->end && *c->at != 0 && strchr("*+?{", *c->at) != NULL;
        if (w != NULL && (repeated || bytes > SET_BYTES_MAX)) {
            words_free(w);
            return NULL;
        }
    }
    return w;
}

static struct words *alternatives(struct kl_cur *c, unsigned depth)
{
    struct words *all = sequence(c, depth);

    while (all != NULL && c->at < c->end && *c->at == '|') {
        c->at++;
        struct words *w = sequence(c, depth);
        if (w == NULL || all->count + w->count > SET_MAX) {
            if (w != NULL)
                words_free(w);
            words_free(all);
            return NULL;
        }
        memcpy(&all->text[all->count], w->text, w->count * sizeof w->text[0]);
        all->count += w->count;
        free(w);
    }
    return all;
}

static int by_text(const void *a, const void *b)
{
    return kl_span_cmp(*(const struct kl_span *)a, *(const struct kl_span *)b);
}

static bool recognise_set(struct kl_regex *re)
{
    struct kl_cur c = kl_cur(re->pattern, re->pattern_size);
    struct words *w = alternatives(&c, 0);
    size_t        total = 0;

    if (w == NULL || c.at != c.end) {
        if (w != NULL)
            words_free(w);
        return false;
    }
    for (size_t i = 0; i < w->count; i++)
        total += w->text[i].size;
    kl_buf_reserve(&re->bytes, total + 1);
    re->set = kl_new(w->count * sizeof *re->set);
    for (size_t i = 0; i < w->count; i++) {
        re->set[i] = kl_span(re->bytes.at + re->bytes.size, w->text[i].size);
        kl_buf_add(&re->bytes, w->text[i].at, w->text[i].size);
    }
    qsort(re->set, w->count, sizeof *re->set, by_text);
    for (size_t i = 0; i < w->count; i++)
        if (re->set_count == 0 || !kl_span_eq(re->set[re->set_count - 1], re->set[i]))
            re->set[re->set_count++] = re->set[i];
    words_free(w);
    re->kind = SET;
    return true;
}

/* ---- recognising a literal between wildcards ---- */

static enum wild wild_at(const char *at, size_t left)
{
    if (left < 2 || at[0] != '.')
        return NONE;
    if (left > 2 && strchr("*+?{", at[2]) != NULL && at[2] != '\0')
        return NONE;                                   /* `.*?` and the like are RE2's */
    return at[1] == '*' ? ANY : at[1] == '+' ? SOME : NONE;
}

/* Copies the literal that `at` begins with, unescaped; returns the bytes of pattern it took. */
static size_t literal(const char *at, size_t left, struct kl_buf *out)
{
    size_t i = 0;

    while (i < left) {
        size_t begin = i;
        char   b = at[i];
        if (b == '\\' && i + 1 < left && is_special((uint8_t)at[i + 1]))
            b = at[i + 1], i += 2;
        else if (is_special((uint8_t)b))
            break;
        else
            i++;
        if (i < left && at[i] != 0 && strchr("*+?{", at[i]) != NULL) {
            while (out->size > 0 && ((uint8_t)b & 0xc0) == 0x80)    /* the whole character is repeated */
                b = out->at[--out->size], begin--;
            return begin;
        }
        kl_buf_add8(out, (uint8_t)b);
    }
    return i;
}

static bool recognise_around(struct kl_regex *re)
{
    const char *at = re->pattern;
    size_t      left = re->pattern_size, took;
    enum wild   before = wild_at(at, left), after;

    if (before != NONE)
        at += 2, left -= 2;
    kl_buf_reserve(&re->bytes, left + 1);
    took = literal(at, left, &re->bytes);
    at += took, left -= took;
    after = wild_at(at, left);
    if (after != NONE)
        left -= 2;
    /* `.+.+` would have to count characters, not bytes. */
    if (left != 0 || (before == NONE && after == NONE) ||
        (re->bytes.size == 0 && before == SOME && after == SOME)) {
        kl_buf_reset(&re->bytes);
        return false;
    }
    re->kind = AROUND;
    re->before = before;
    re->after = after;
    re->literal = kl_buf_span(&re->bytes);
    if (before == NONE)
        re->prefix = re->literal;
    return true;
}

/* Is there a '|' outside all parentheses? When in doubt, yes. */
static bool has_branches(const struct kl_regex *re)
{
    int depth = 0;

    for (size_t i = 0; i < re->pattern_size; i++) {
        char b = re->pattern[i];
        if (b == '\\')
            return i + 1 < re->pattern_size && memchr(re->pattern, '|', re->pattern_size) != NULL;
        if (b == '[')
            return memchr(re->pattern, '|', re->pattern_size) != NULL;
        depth += (b == '(') - (b == ')');
        if (b == '|' && depth <= 0)
            return true;
    }
    return false;
}

static void find_prefix(struct kl_regex *re)
{
    size_t stop;

    if (has_branches(re))
        return;
    kl_buf_reserve(&re->bytes, re->pattern_size + 1);
    stop = literal(re->pattern, re->pattern_size, &re->bytes);
    /* Behind `(?)` or `\Q\E`, which match nothing, a `*` may follow and mean the last character. */
    if (stop < re->pattern_size && (re->pattern[stop] == '\\' || re->pattern[stop] == '('))
        while (re->bytes.size > 0 && ((uint8_t)re->bytes.at[--re->bytes.size] & 0xc0) == 0x80) { }
    re->prefix = kl_buf_span(&re->bytes);
}

/* ---- the interface ---- */

enum kl_code kl_regex_new(struct kl_span pattern, struct kl_regex **out, struct kl_err *err)
{
    struct kl_regex *re;
    char             why[200];

    if (pattern.size > KL_REGEX_PATTERN_MAX)
        return kl_fail(err, KL_ELIMIT, "a regular expression of %zu bytes: at most %d", pattern.size,
                       KL_REGEX_PATTERN_MAX);
    if (!kl_utf8_ok(pattern))
        return kl_fail(err, KL_EINVAL, "a regular expression that is not UTF-8");
    re = kl_new(sizeof *re);
    *re = (struct kl_regex){ .kind = OTHER, .pattern_size = pattern.size };
    re->pattern = kl_new(pattern.size + 1);
    if (pattern.size > 0)
        memcpy(re->pattern, pattern.at, pattern.size);
    if (!recognise_set(re) && !recognise_around(re)) {
        struct kl_re2 *re2 = kl_re2_new(re->pattern, re->pattern_size, KL_REGEX_MEMORY_MAX, why,
                                        sizeof why);
        if (re2 == NULL) {
            kl_regex_free(re);
            return kl_fail(err, KL_EINVAL, "error parsing regexp: %s", why);
        }
        atomic_store(&re->re2, re2);
        find_prefix(re);
    }
    *out = re;
    return KL_OK;
}

void kl_regex_free(struct kl_regex *re)
{
    if (re == NULL)
        return;
    if (atomic_load(&re->re2) != NULL)
        kl_re2_free(atomic_load(&re->re2));
    kl_buf_deinit(&re->bytes);
    free(re->set);
    free(re->pattern);
    free(re);
}

static bool set_has(const struct kl_regex *re, struct kl_span text)
{
    size_t low = 0, high = re->set_count;

    while (low < high) {
        size_t mid = (low + high) / 2;
        int    order = kl_span_cmp(re->set[mid], text);
        if (order == 0)
            return true;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

static bool around_matches(const struct kl_regex *re, struct kl_span text)
{
    size_t front = re->before == SOME, back = re->after == SOME, n = re->literal.size;
    const char *at = text.at;

    if (text.size < n + front + back)
        return false;
    if (n == 0)
        return true;
    if (re->before == NONE)
        return memcmp(at, re->literal.at, n) == 0;
    if (re->after == NONE)
        return memcmp(at + text.size - n, re->literal.at, n) == 0;
    return memmem(at + front, text.size - front - back, re->literal.at, n) != NULL;
}

size_t kl_regex_bytes(const struct kl_regex *re)
{
    enum { INSTRUCTION_BYTES = 32, ITSELF = 2048 };    /* measured: 8 to 27, with what it was made of */
    const struct kl_re2 *re2 = atomic_load(&re->re2);

    return sizeof *re + re->pattern_size + re->bytes.room + re->set_count * sizeof *re->set +
           (re2 != NULL ? ITSELF + INSTRUCTION_BYTES * kl_re2_instructions(re2) : 0);
}

bool kl_regex_match(const struct kl_regex *re, struct kl_span text)
{
    switch (re->kind) {
    case SET:    return set_has(re, text);
    case AROUND: return around_matches(re, text);
    case OTHER:  break;
    }
    return kl_re2_match(atomic_load_explicit(&re->re2, memory_order_relaxed), text.at, text.size);
}

size_t kl_regex_set(const struct kl_regex *re, const struct kl_span **set)
{
    *set = re->set;
    return re->set_count;
}

struct kl_span kl_regex_prefix(const struct kl_regex *re)
{
    return re->prefix.size > 0 ? re->prefix : kl_span("", 0);
}

/* A recognised pattern has no RE2 until groups are asked for; of two that make one, one stays. */
static struct kl_re2 *re2_of(const struct kl_regex *constant)
{
    struct kl_regex *re = (struct kl_regex *)constant;
    struct kl_re2   *there = atomic_load(&re->re2), *made;
    char             why[200];

    if (there != NULL)
        return there;
    made = kl_re2_new(re->pattern, re->pattern_size, KL_REGEX_MEMORY_MAX, why, sizeof why);
    assert(made != NULL);                              /* what we recognise is always valid */
    if (atomic_compare_exchange_strong(&re->re2, &there, made))
        return made;
    kl_re2_free(made);
    return there;
}

size_t kl_regex_groups(const struct kl_regex *re, struct kl_span text, struct kl_span *groups,
                       size_t max)
{
    enum { GROUPS_MAX = 100 };
    long   begin[GROUPS_MAX], length[GROUPS_MAX];
    size_t n = kl_re2_groups(re2_of(re), text.at, text.size, begin, length,
                             max < GROUPS_MAX ? max : GROUPS_MAX);

    for (size_t i = 0; i < n; i++)
        groups[i] = begin[i] < 0 ? kl_span("", 0)
                                 : kl_span((const char *)text.at + begin[i], (size_t)length[i]);
    return n;
}

int kl_regex_group_index(const struct kl_regex *re, struct kl_span name)
{
    return kl_re2_group_index(re2_of(re), name.at, name.size);
}
