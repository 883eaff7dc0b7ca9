#include "libkoal/base/relabel.h"

#include "libkoal/base/config.h"
#include "libkoal/base/match.h"
#include "libkoal/base/md5.h"

#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wctype.h>

enum { SOURCES_MAX = 64, GROUPS_MAX = 100 };

enum action { REPLACE, KEEP, DROP, KEEPEQUAL, DROPEQUAL, HASHMOD, LABELMAP, LABELDROP, LABELKEEP,
              LOWERCASE, UPPERCASE, ACTIONS };
static const char *const actions[ACTIONS] = { "replace", "keep", "drop", "keepequal", "dropequal", "hashmod",
                                              "labelmap", "labeldrop", "labelkeep", "lowercase",
                                              "uppercase" };

struct text { char *at; size_t size; };                /* owned; at NULL: not given */
struct rule {
    enum action action;
    struct text *sources; size_t source_count;
    struct text separator, regex, target, replacement;
    uint64_t modulus;
    bool     has_modulus;
    struct kl_regex *re;
};
struct kl_relabel {
    struct rule *rules;
    size_t       count;
    locale_t     locale;                               /* 0 where no rule asks for a case */
};

static struct kl_span span_of(struct text t, const char *otherwise)
{
    return t.at != NULL ? kl_span(t.at, t.size) : kl_span_str(otherwise);
}

/* ---- reading rules ---- */

static struct text copy(struct kl_span s)
{
    struct text t = { .at = kl_new(s.size + 1), .size = s.size };

    if (s.size > 0)
        memcpy(t.at, s.at, s.size);
    return t;
}

static bool name_ok(struct kl_span s) { return s.size > 0 && kl_utf8_ok(s); }

static enum kl_code read_action(struct rule *r, struct kl_span value, struct kl_err *err)
{
    for (unsigned i = 0; i < ACTIONS; i++)
        if (strlen(actions[i]) == value.size && strncasecmp(actions[i], value.at, value.size) == 0) {
            r->action = (enum action)i;
            return KL_OK;
        }
    return kl_fail(err, KL_EINVAL, "there is no action \"%.*s\"", (int)(value.size < 40 ? value.size : 40),
                   (const char *)value.at);
}

static enum kl_code read_modulus(struct rule *r, struct kl_span value, struct kl_err *err)
{
    const char *at = value.at;
    uint64_t    n = 0;

    for (size_t i = 0; i < value.size; i++)
        if (at[i] < '0' || at[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(at[i] - '0'), &n))
            return kl_fail(err, KL_EINVAL, "modulus should be a whole number");
    r->modulus = n;
    r->has_modulus = true;
    return KL_OK;
}

static enum kl_code read_source(struct rule *r, struct kl_span value, struct kl_err *err)
{
    if (!name_ok(value))
        return kl_fail(err, KL_EINVAL, "a source label without a name");
    if (r->source_count == SOURCES_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d source labels", SOURCES_MAX);
    r->sources = kl_resize(r->sources, (r->source_count + 1) * sizeof *r->sources);
    r->sources[r->source_count++] = copy(value);
    return KL_OK;
}

static enum kl_code read_field(struct rule *r, const char *key, size_t nth, struct kl_span value,
                               struct kl_err *err)
{
    const struct { const char *name; struct text *to; } texts[] = {
        { "separator", &r->separator }, { "regex", &r->regex }, { "target_label", &r->target },
        { "replacement", &r->replacement },
    };

    if (strcmp(key, "source_labels") == 0)
        return read_source(r, value, err);
    if (nth > 0)
        return kl_fail(err, KL_EINVAL, "%.40s is no list", key);
    if (strcmp(key, "action") == 0)
        return read_action(r, value, err);
    if (strcmp(key, "modulus") == 0)
        return read_modulus(r, value, err);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(key, texts[i].name) == 0) {
            free(texts[i].to->at);
            *texts[i].to = copy(value);
            return KL_OK;
        }
    return kl_fail(err, KL_EINVAL, "a rule has no \"%.40s\"", key);
}

static enum kl_code on_field(void *ctx, size_t item, const char *key, size_t nth, struct kl_span value,
                             struct kl_err *err)
{
    struct kl_relabel *r = ctx;

    if (item >= KL_RELABEL_RULES_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d rules", KL_RELABEL_RULES_MAX);
    if (item >= r->count) {
        r->rules = kl_resize(r->rules, (item + 1) * sizeof *r->rules);
        memset(&r->rules[r->count], 0, (item + 1 - r->count) * sizeof *r->rules);
        r->count = item + 1;
    }
    if (read_field(&r->rules[item], key, nth, value, err) != KL_OK)
        return kl_within(err, "rule %zu", item + 1);
    return KL_OK;
}

static bool has_reference(struct kl_span s)
{
    return s.size > 0 && memchr(s.at, '$', s.size) != NULL;
}

/* What Prometheus refuses too: what is wanted and missing, and what would have no effect. */
static enum kl_code judge(const struct rule *r, struct kl_err *err)
{
    const char    *name = actions[r->action];
    enum action    a = r->action;
    struct kl_span target = span_of(r->target, ""), to = span_of(r->replacement, "$1");
    bool           equal = a == KEEPEQUAL || a == DROPEQUAL, letters = a == LOWERCASE || a == UPPERCASE;

    if (a == HASHMOD && r->modulus == 0)
        return kl_fail(err, KL_EINVAL, "hashmod wants a modulus above 0");
    if ((a == REPLACE || a == HASHMOD || letters || equal) && !name_ok(target))
        return kl_fail(err, KL_EINVAL, "%s wants a target_label", name);
    if (letters && r->replacement.at != NULL && !kl_span_eq(to, kl_span_str("$1")))
        return kl_fail(err, KL_EINVAL, "%s has no use for a replacement", name);
    if (a == LABELMAP && !has_reference(to) && !name_ok(to))
        return kl_fail(err, KL_EINVAL, "labelmap wants a label name for replacement");
    if (equal && (r->regex.at != NULL || r->separator.at != NULL || r->has_modulus ||
                  r->replacement.at != NULL))
        return kl_fail(err, KL_EINVAL, "%s takes source_labels and target_label only", name);
    if ((a == LABELDROP || a == LABELKEEP) &&
        (r->source_count > 0 || r->target.at != NULL || r->has_modulus || r->separator.at != NULL ||
         r->replacement.at != NULL))
        return kl_fail(err, KL_EINVAL, "%s takes a regex only", name);
    if (!kl_utf8_ok(to) || !kl_utf8_ok(span_of(r->separator, ";")))
        return kl_fail(err, KL_EINVAL, "replacement and separator should be UTF-8");
    return KL_OK;
}

static enum kl_code finish(struct kl_relabel *r, struct rule *x, struct kl_err *err)
{
    if (judge(x, err) != KL_OK)
        return err->code;
    if (kl_regex_new(span_of(x->regex, "(.*)"), &x->re, err) != KL_OK)
        return kl_within(err, "regex");
    if ((x->action == LOWERCASE || x->action == UPPERCASE) && r->locale == (locale_t)0)
        r->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if ((x->action == LOWERCASE || x->action == UPPERCASE) && r->locale == (locale_t)0)
        return kl_fail(err, KL_ENOENT, "%s wants the locale C.UTF-8, and this machine has none",
                       actions[x->action]);
    return KL_OK;
}

enum kl_code kl_relabel_new(const char *list, struct kl_relabel **relabel, struct kl_err *err)
{
    struct kl_relabel *r = kl_new(sizeof *r);
    enum kl_code       code = kl_config_list(list, on_field, r, err);

    for (size_t i = 0; i < r->count && code == KL_OK; i++) {
        code = finish(r, &r->rules[i], err);
        if (code != KL_OK)
            kl_within(err, "rule %zu", i + 1);
    }
    if (code != KL_OK) {
        kl_relabel_free(r);
        return code;
    }
    *relabel = r;
    return KL_OK;
}

void kl_relabel_free(struct kl_relabel *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->count; i++) {
        struct rule *x = &r->rules[i];
        for (size_t k = 0; k < x->source_count; k++)
            free(x->sources[k].at);
        free(x->sources);
        free(x->separator.at);
        free(x->regex.at);
        free(x->target.at);
        free(x->replacement.at);
        kl_regex_free(x->re);
    }
    free(r->rules);
    if (r->locale != (locale_t)0)
        freelocale(r->locale);
    free(r);
}

size_t kl_relabel_count(const struct kl_relabel *r) { return r->count; }

enum kl_code kl_relabel_check(const char *list, struct kl_err *err)
{
    struct kl_relabel *r;
    enum kl_code       code = kl_relabel_new(list, &r, err);

    if (code == KL_OK)
        kl_relabel_free(r);
    return code;
}

/* ---- applying them ---- */

struct work { struct kl_labels_builder *b; struct kl_arena *arena; bool full; };

static struct kl_label *find(struct kl_labels_builder *b, struct kl_span name)
{
    for (size_t i = 0; i < b->count; i++)
        if (kl_span_eq(b->pairs[i].name, name))
            return &b->pairs[i];
    return NULL;
}

static void remove_at(struct kl_labels_builder *b, size_t i) { b->pairs[i] = b->pairs[--b->count]; }

/* Both live as long as the arena, or the builder's other text. */
static void set(struct work *w, struct kl_span name, struct kl_span value)
{
    struct kl_label *x = find(w->b, name);
    struct kl_err    err;

    if (x != NULL && value.size == 0)
        remove_at(w->b, (size_t)(x - w->b->pairs));
    else if (x != NULL)
        x->value = value;
    else if (value.size > 0 && kl_labels_add(w->b, name, value, &err) != KL_OK)
        w->full = true;
}

static struct kl_span keep(struct work *w, struct kl_span s)
{
    void *at = kl_arena_copy(w->arena, s.at, s.size);

    if (at == NULL)
        w->full = true;
    return at == NULL ? kl_span("", 0) : kl_span(at, s.size);
}

static struct kl_span expand(struct work *w, const struct rule *r, struct kl_span form,
                             const struct kl_span *groups, size_t count)
{
    struct kl_buf  out;
    struct kl_span s;

    if (!has_reference(form))
        return form;
    kl_buf_init(&out, KL_LABELS_BYTES_MAX);
    kl_regex_expand(r->re, form, groups, count, &out);
    if (!kl_buf_ok(&out))
        w->full = true;
    s = keep(w, kl_buf_span(&out));
    kl_buf_deinit(&out);
    return s;
}

/* The values of the source labels, joined. */
static struct kl_span source(struct work *w, const struct rule *r)
{
    struct kl_span sep = span_of(r->separator, ";"), values[SOURCES_MAX];
    size_t         size = 0, at = 0;
    char          *out;

    for (size_t i = 0; i < r->source_count; i++) {
        struct kl_label *x = find(w->b, kl_span(r->sources[i].at, r->sources[i].size));
        values[i] = x == NULL ? kl_span("", 0) : x->value;
        size += values[i].size + (i > 0 ? sep.size : 0);
    }
    if (r->source_count == 0)
        return kl_span("", 0);
    if (r->source_count == 1)
        return values[0];
    out = kl_arena_alloc(w->arena, size + 1);
    if (out == NULL) {
        w->full = true;
        return kl_span("", 0);
    }
    for (size_t i = 0; i < r->source_count; i++) {
        if (i > 0 && sep.size > 0)
            memcpy(out + at, sep.at, sep.size);
        at += i > 0 ? sep.size : 0;
        if (values[i].size > 0)
            memcpy(out + at, values[i].at, values[i].size);
        at += values[i].size;
    }
    return kl_span(out, size);
}

static void replace(struct work *w, const struct rule *r, struct kl_span value)
{
    struct kl_span groups[GROUPS_MAX], name, to = span_of(r->replacement, "$1");
    struct kl_span target = span_of(r->target, "");
    size_t         n = 0;

    /* Groups are dear, and often nothing asks for them. */
    if (!has_reference(target) && (!has_reference(to) || kl_span_eq(to, kl_span_str("$1")))) {
        if (!kl_regex_match(r->re, value))
            return;
        if (!has_reference(to)) {
            set(w, target, to);
            return;
        }
        if (r->regex.at == NULL) {                     /* (.*) and $1: the value as it is */
            set(w, target, value);
            return;
        }
    }
    n = kl_regex_groups(r->re, value, groups, GROUPS_MAX);
    if (n == 0)
        return;
    name = expand(w, r, target, groups, n);
    if (name_ok(name))
        set(w, name, expand(w, r, to, groups, n));
}

static void hashmod(struct work *w, const struct rule *r, struct kl_span value)
{
    uint8_t  digest[16];
    uint64_t number = 0;
    char     text[24];
    int      n;

    kl_md5(value, digest);
    for (unsigned i = 8; i < 16; i++)
        number = number << 8 | digest[i];
    n = snprintf(text, sizeof text, "%" PRIu64, number % r->modulus);
    set(w, span_of(r->target, ""), keep(w, kl_span(text, (size_t)n)));
}

static void labelmap(struct work *w, const struct rule *r)
{
    struct kl_span          groups[GROUPS_MAX], name;
    struct kl_labels_builder before = *w->b;

    for (size_t i = 0; i < before.count && !w->full; i++) {
        size_t n = kl_regex_groups(r->re, before.pairs[i].name, groups, GROUPS_MAX);
        if (n == 0)
            continue;
        name = expand(w, r, span_of(r->replacement, "$1"), groups, n);
        if (name_ok(name))
            set(w, name, before.pairs[i].value);
    }
}

static void filter(struct kl_labels_builder *b, const struct kl_regex *re, bool keeps)
{
    for (size_t i = b->count; i > 0; i--)
        if (kl_regex_match(re, b->pairs[i - 1].name) != keeps)
            remove_at(b, i - 1);
}

/* ---- letters ---- */

/* One character of checked UTF-8, moved past. */
static uint32_t decode(const uint8_t **at)
{
    uint32_t c = *(*at)++;
    unsigned more = c < 0xc0 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;

    if (more > 0)
        c &= 0x3fu >> more;
    for (; more > 0; more--)
        c = c << 6 | (*(*at)++ & 0x3fu);
    return c;
}

static void encode(struct kl_buf *out, uint32_t c)
{
    if (c < 0x80) {
        kl_buf_add8(out, (uint8_t)c);
    } else if (c < 0x800) {
        kl_buf_add8(out, (uint8_t)(0xc0 | c >> 6));
        kl_buf_add8(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        kl_buf_add8(out, (uint8_t)(0xe0 | c >> 12));
        kl_buf_add8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        kl_buf_add8(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        kl_buf_add8(out, (uint8_t)(0xf0 | c >> 18));
        kl_buf_add8(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        kl_buf_add8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        kl_buf_add8(out, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

static void letters(struct work *w, const struct kl_relabel *relabel, const struct rule *r,
                    struct kl_span value)
{
    const uint8_t *at = value.at, *end = at + value.size;
    struct kl_buf  out;

    kl_buf_init(&out, 2 * KL_LABELS_BYTES_MAX);
    while (value.size > 0 && at < end) {
        uint32_t c = decode(&at);
        encode(&out, (uint32_t)(r->action == LOWERCASE ? towlower_l((wint_t)c, relabel->locale)
                                                       : towupper_l((wint_t)c, relabel->locale)));
    }
    if (!kl_buf_ok(&out))
        w->full = true;
    set(w, span_of(r->target, ""), keep(w, kl_buf_span(&out)));
    kl_buf_deinit(&out);
}

/* False: dropped. */
static bool apply(struct work *w, const struct kl_relabel *relabel, const struct rule *r)
{
    struct kl_span   value = source(w, r);
    struct kl_label *target;

    switch (r->action) {
    case KEEP:      return kl_regex_match(r->re, value);
    case DROP:      return !kl_regex_match(r->re, value);
    case KEEPEQUAL:
    case DROPEQUAL:
        target = find(w->b, span_of(r->target, ""));
        return kl_span_eq(target == NULL ? kl_span("", 0) : target->value, value) ==
               (r->action == KEEPEQUAL);
    case REPLACE:   replace(w, r, value); break;
    case HASHMOD:   hashmod(w, r, value); break;
    case LABELMAP:  labelmap(w, r); break;
    case LABELDROP: filter(w->b, r->re, false); break;
    case LABELKEEP: filter(w->b, r->re, true); break;
    case LOWERCASE:
    case UPPERCASE: letters(w, relabel, r, value); break;
    case ACTIONS:   break;
    }
    return true;
}

enum kl_relabelled kl_relabel_apply(const struct kl_relabel *r, struct kl_labels_builder *b,
                                    struct kl_arena *a)
{
    struct work w = { .b = b, .arena = a };

    for (size_t i = b->count; i > 0; i--)
        if (b->pairs[i - 1].value.size == 0)           /* no label */
            remove_at(b, i - 1);
    for (size_t i = 0; i < r->count && !w.full; i++)
        if (!apply(&w, r, &r->rules[i]) && !w.full)
            return KL_RELABEL_DROPPED;
    for (size_t i = b->count; i > 0; i--)
        if (b->pairs[i - 1].name.size >= 5 && memcmp(b->pairs[i - 1].name.at, "__tmp", 5) == 0)
            remove_at(b, i - 1);
    return w.full ? KL_RELABEL_FULL : KL_RELABEL_KEPT;
}
