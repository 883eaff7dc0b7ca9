/* Attributes, resources, scopes and exemplars as labels. */
#include "libtsproto/otlp_labels.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/base64.h"
#include "libkoal/base/hex.h"
#include "libkoal/base/json.h"
#include "libtsproto/wire_priv.h"

/* Field numbers: opentelemetry/proto/common/v1/common.proto, resource/v1/resource.proto. */
enum { KV_KEY = 1, KV_VALUE = 2 };
enum { ANY_STRING = 1, ANY_BOOL, ANY_INT, ANY_DOUBLE, ANY_LIST, ANY_MAP, ANY_BYTES };
enum { LIST_VALUE = 1, RESOURCE_ATTRIBUTE = 1, SCOPE_ATTRIBUTE = 3 };
enum { EXEMPLAR_TIME = 2, EXEMPLAR_DOUBLE = 3, EXEMPLAR_SPAN = 4, EXEMPLAR_TRACE = 5, EXEMPLAR_INT = 6,
       EXEMPLAR_ATTRIBUTE = 7 };
enum { VALUE_MAX_BYTES = 32768, EXEMPLAR_CHARS_MAX = 128, ID_MAX_BYTES = 64 };

/* ---- values as text ---- */

static const uint8_t any_types[] = {
    [ANY_STRING] = TSP_BYTES, [ANY_BOOL] = TSP_VARINT, [ANY_INT] = TSP_VARINT, [ANY_DOUBLE] = TSP_FIXED64,
    [ANY_LIST] = TSP_BYTES, [ANY_MAP] = TSP_BYTES, [ANY_BYTES] = TSP_BYTES,
};

/* The one field of an AnyValue that is set; number 0: none is. */
static bool read_any(struct kl_span value, struct tsp_field *any)
{
    struct kl_cur    c = tsp_wire_in(value);
    struct tsp_field f;

    *any = (struct tsp_field){ 0 };
    while (tsp_wire_next(&c, &f)) {
        if (f.number > ANY_BYTES)
            continue;
        if (f.type != any_types[f.number])
            return false;
        *any = f;
    }
    return !c.bad;
}

/* The shortest text that reads back as the same; with an exponent where digits alone would be long. */
static void add_double(struct kl_buf *out, double v, bool json)
{
    char   text[KL_F64_TEXT_MAX], *e;
    double size = fabs(v);

    if (isfinite(v) && size != 0 && (size < 1e-6 || size >= 1e21)) {
        for (int digits = 0; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*e", digits, v);
            if (strtod(text, NULL) == v)
                break;
        }
        e = strchr(text, 'e') + 2;                     /* e-09: a leading zero says nothing */
        if (e[0] == '0' && e[1] != '\0')
            memmove(e, e + 1, strlen(e));
        kl_buf_adds(out, text);
        return;
    }
    if (json && !isfinite(v))
        kl_buf_add8(out, '"');
    kl_buf_add(out, text, kl_f64_text(v, text));
    if (json && !isfinite(v))
        kl_buf_add8(out, '"');
}

static bool read_pair(struct kl_span kv, struct kl_span *key, struct kl_span *value)
{
    struct kl_cur    c = tsp_wire_in(kv);
    struct tsp_field f;

    *key = *value = kl_span("", 0);
    while (tsp_wire_next(&c, &f)) {
        if (f.number != KV_KEY && f.number != KV_VALUE)
            continue;
        if (f.type != TSP_BYTES)
            return false;
        *(f.number == KV_KEY ? key : value) = f.bytes;
    }
    return !c.bad;
}

static enum kl_code no_value(struct kl_err *err)
{
    return kl_fail(err, KL_EINVAL, "an attribute that is no value");
}

static enum kl_code add_json(struct kl_buf *out, const struct tsp_field *any, unsigned depth,
                             struct kl_err *err);

static enum kl_code add_json_value(struct kl_buf *out, struct kl_span value, unsigned depth,
                                   struct kl_err *err)
{
    struct tsp_field any;

    if (!read_any(value, &any))
        return no_value(err);
    return add_json(out, &any, depth, err);
}

static enum kl_code add_json_list(struct kl_buf *out, struct kl_span list, unsigned depth,
                                  struct kl_err *err)
{
    struct kl_cur  c = tsp_wire_in(list);
    struct kl_span value;
    bool           first = true;

    kl_buf_add8(out, '[');
    for (; tsp_otlp_next(&c, LIST_VALUE, &value) && kl_buf_ok(out); first = false) {
        if (!first)
            kl_buf_add8(out, ',');
        if (add_json_value(out, value, depth + 1, err) != KL_OK)
            return err->code;
    }
    kl_buf_add8(out, ']');
    return c.bad ? no_value(err) : KL_OK;
}

static enum kl_code add_json_map(struct kl_buf *out, struct kl_span map, unsigned depth,
                                 struct kl_err *err)
{
    struct { struct kl_span key, value; } all[TSP_OTLP_KEYS_MAX], one;
    struct kl_cur  c = tsp_wire_in(map);
    struct kl_span kv;
    size_t         count = 0, i;

    while (tsp_otlp_next(&c, LIST_VALUE, &kv)) {
        if (count == TSP_OTLP_KEYS_MAX)
            return kl_fail(err, KL_ELIMIT, "an attribute of more than %d keys", TSP_OTLP_KEYS_MAX);
        if (!read_pair(kv, &one.key, &one.value))
            return no_value(err);
        for (i = count++; i > 0 && kl_span_cmp(one.key, all[i - 1].key) < 0; i--)
            all[i] = all[i - 1];
        all[i] = one;
    }
    if (c.bad)
        return no_value(err);
    kl_buf_add8(out, '{');
    for (i = 0; i < count && kl_buf_ok(out); i++) {
        if (i > 0)
            kl_buf_add8(out, ',');
        kl_json_str(out, all[i].key);
        kl_buf_add8(out, ':');
        if (add_json_value(out, all[i].value, depth + 1, err) != KL_OK)
            return err->code;
    }
    kl_buf_add8(out, '}');
    return KL_OK;
}

static enum kl_code add_json(struct kl_buf *out, const struct tsp_field *any, unsigned depth,
                             struct kl_err *err)
{
    if (depth > TSP_OTLP_DEPTH_MAX)
        return kl_fail(err, KL_ELIMIT, "an attribute nested deeper than %d", TSP_OTLP_DEPTH_MAX);
    switch (any->number) {
    case ANY_STRING: kl_json_str(out, any->bytes); break;
    case ANY_BOOL:   kl_buf_adds(out, any->v != 0 ? "true" : "false"); break;
    case ANY_INT:    kl_buf_addf(out, "%" PRId64, (int64_t)any->v); break;
    case ANY_DOUBLE: add_double(out, kl_bits_f64(any->v), true); break;
    case ANY_LIST:   return add_json_list(out, any->bytes, depth, err);
    case ANY_MAP:    return add_json_map(out, any->bytes, depth, err);
    case ANY_BYTES:
        kl_buf_add8(out, '"');
        kl_base64(out, any->bytes, true);
        kl_buf_add8(out, '"');
        break;
    default:         kl_buf_adds(out, "null"); break;
    }
    return KL_OK;
}

enum kl_code tsp_otlp_value_text(struct kl_span value, struct kl_arena *arena, struct kl_span *text,
                                 struct kl_err *err)
{
    struct tsp_field any;
    struct kl_buf    out;
    enum kl_code     code = KL_OK;
    void            *copy;

    if (!read_any(value, &any))
        return no_value(err);
    if (any.number == 0 || any.number == ANY_STRING) {
        *text = any.number == 0 ? kl_span("", 0) : any.bytes;
        return KL_OK;
    }
    if (any.number == ANY_BOOL) {
        *text = kl_span_str(any.v != 0 ? "true" : "false");
        return KL_OK;
    }
    kl_buf_init(&out, VALUE_MAX_BYTES);
    if (any.number == ANY_DOUBLE)
        add_double(&out, kl_bits_f64(any.v), false);
    else if (any.number == ANY_BYTES)
        kl_base64(&out, any.bytes, true);
    else
        code = add_json(&out, &any, 0, err);
    if (code == KL_OK && !kl_buf_ok(&out))
        code = kl_fail(err, KL_ELIMIT, "an attribute whose text is longer than %d bytes", VALUE_MAX_BYTES);
    if (code == KL_OK) {
        copy = kl_arena_copy(arena, out.at, out.size);
        if (copy == NULL)
            code = kl_fail(err, KL_ELIMIT, "no room for an attribute");
        else
            *text = kl_span(copy, out.size);
    }
    kl_buf_deinit(&out);
    return code;
}

/* ---- label sets ---- */

enum kl_code tsp_otlp_label_set(struct kl_labels_builder *b, struct kl_span name, struct kl_span value,
                                struct kl_err *err)
{
    for (size_t i = 0; i < b->count; i++)
        if (kl_span_eq(b->pairs[i].name, name)) {
            b->pairs[i].value = value;
            return KL_OK;
        }
    return kl_labels_add(b, name, value, err);
}

static const struct kl_label *find_label(const struct kl_labels_builder *b, struct kl_span name)
{
    for (size_t i = 0; i < b->count; i++)
        if (kl_span_eq(b->pairs[i].name, name))
            return &b->pairs[i];
    return NULL;
}

static bool in_list(const char *list, struct kl_span word)
{
    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ","), from = 0, to = n;
        while (from < to && list[from] == ' ')
            from++;
        while (to > from && list[to - 1] == ' ')
            to--;
        if (kl_span_eq(kl_span(list + from, to - from), word))
            return true;
        list += n + (list[n] == ',');
    }
    return false;
}

static struct kl_span word(const char *text) { return kl_span_str(text); }

static bool is_identifying(struct kl_span key)
{
    return kl_span_eq(key, word("service.name")) || kl_span_eq(key, word("service.namespace")) ||
           kl_span_eq(key, word("service.instance.id"));
}

struct pairs { size_t count; struct { struct kl_span key, value; } at[KL_LABELS_MAX]; };

/* Behind all that are not larger. */
static size_t place_of(const struct pairs *p, struct kl_span key)
{
    size_t from = 0, to = p->count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (kl_span_cmp(p->at[middle].key, key) <= 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* Attributes of a message, by key. `wanted` may be NULL. */
static enum kl_code sorted(struct kl_span message, uint32_t number,
                           bool (*wanted)(const struct tsp_otlp_settings *o, struct kl_span key),
                           const struct tsp_otlp_settings *o, struct pairs *p, struct kl_err *err)
{
    struct kl_cur  c = tsp_otlp_in(message);
    struct kl_span kv, key, value;
    size_t         i;

    p->count = 0;
    while (tsp_otlp_next(&c, number, &kv)) {
        if (!read_pair(kv, &key, &value))
            return no_value(err);
        if (wanted != NULL && !wanted(o, key))
            continue;
        if (p->count == KL_LABELS_MAX)
            return kl_fail(err, KL_ELIMIT, "more than %d attributes", KL_LABELS_MAX);
        i = place_of(p, key);
        memmove(&p->at[i + 1], &p->at[i], (p->count++ - i) * sizeof p->at[0]);
        p->at[i].key = key;
        p->at[i].value = value;
    }
    return c.bad ? no_value(err) : KL_OK;
}

/* Two attributes whose names become one: their values, one after the other. */
static enum kl_code join(struct kl_label *into, struct kl_span value, struct kl_arena *arena,
                         struct kl_err *err)
{
    size_t size = into->value.size + 1 + value.size;
    char  *at = size <= VALUE_MAX_BYTES ? kl_arena_alloc(arena, size) : NULL;

    if (at == NULL)
        return kl_fail(err, KL_ELIMIT, "attributes that become one label are too long together");
    memcpy(at, into->value.at, into->value.size);
    at[into->value.size] = ';';
    memcpy(at + into->value.size + 1, value.at, value.size);
    into->value = kl_span(at, size);
    return KL_OK;
}

static enum kl_code add_attributes(const struct tsp_otlp_settings *o, const struct pairs *p,
                                   struct kl_labels_builder *b, struct kl_arena *arena,
                                   struct kl_err *err)
{
    for (size_t i = 0; i < p->count; i++) {
        struct kl_span name, value;
        struct kl_label *same;

        if (tsp_otlp_label_name(o, p->at[i].key, arena, &name, err) != KL_OK ||
            tsp_otlp_value_text(p->at[i].value, arena, &value, err) != KL_OK)
            return err->code;
        same = (struct kl_label *)find_label(b, name);
        if ((same != NULL ? join(same, value, arena, err) : kl_labels_add(b, name, value, err)) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

static bool promotes(const struct tsp_otlp_settings *o, struct kl_span key)
{
    return o->promote_all ? !in_list(o->ignored, key) : in_list(o->promoted, key);
}

static enum kl_code add_promoted(const struct tsp_otlp_settings *o, const struct tsp_otlp_resource *r,
                                 struct pairs *p, struct tsp_otlp_shared *to, struct kl_arena *arena,
                                 struct kl_err *err)
{
    if (!o->promote_all && (o->promoted == NULL || o->promoted[0] == '\0'))
        return KL_OK;
    if (sorted(r->resource, RESOURCE_ATTRIBUTE, promotes, o, p, err) != KL_OK)
        return err->code;
    for (size_t i = 0; i < p->count; i++) {
        struct kl_label *x = &to->promoted[to->promoted_count];
        bool             twice = false;

        if (tsp_otlp_label_name(o, p->at[i].key, arena, &x->name, err) != KL_OK)
            return err->code;
        for (size_t j = 0; j < to->promoted_count; j++)
            twice = twice || kl_span_eq(to->promoted[j].name, x->name);
        if (twice)
            continue;
        if (tsp_otlp_value_text(p->at[i].value, arena, &x->value, err) != KL_OK)
            return err->code;
        to->promoted_count++;
    }
    return KL_OK;
}

static enum kl_code add_scope(const struct tsp_otlp_settings *o, const struct tsp_otlp_scope *s,
                              struct pairs *p, struct kl_labels_builder *b, struct kl_arena *arena,
                              struct kl_err *err)
{
    static const char prefix[] = "otel_scope_";

    if (tsp_otlp_label_set(b, word("otel_scope_name"), s->name, err) != KL_OK ||
        tsp_otlp_label_set(b, word("otel_scope_version"), s->version, err) != KL_OK ||
        tsp_otlp_label_set(b, word("otel_scope_schema_url"), s->schema_url, err) != KL_OK ||
        sorted(s->scope, SCOPE_ATTRIBUTE, NULL, o, p, err) != KL_OK)
        return err->code;
    for (size_t i = 0; i < p->count; i++) {
        struct kl_span key = p->at[i].key, name, value;
        char *at = key.size > VALUE_MAX_BYTES ? NULL : kl_arena_alloc(arena, sizeof prefix + key.size);
        if (at == NULL)
            return kl_fail(err, KL_ELIMIT, "no room for an attribute's name");
        memcpy(at, prefix, sizeof prefix - 1);
        memcpy(at + sizeof prefix - 1, key.at, key.size);
        if (tsp_otlp_label_name(o, kl_span(at, sizeof prefix - 1 + key.size), arena, &name, err) != KL_OK ||
            tsp_otlp_value_text(p->at[i].value, arena, &value, err) != KL_OK ||
            tsp_otlp_label_set(b, name, value, err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

static enum kl_code find_text(struct kl_span message, const char *key, struct kl_arena *arena,
                              struct kl_span *text, struct kl_err *err)
{
    struct kl_cur  c = tsp_otlp_in(message);
    struct kl_span kv, k, value;

    *text = kl_span("", 0);
    while (tsp_otlp_next(&c, RESOURCE_ATTRIBUTE, &kv))
        if (read_pair(kv, &k, &value) && kl_span_eq(k, word(key)))
            return tsp_otlp_value_text(value, arena, text, err);
    return KL_OK;
}

/* job is namespace/name or name, instance the instance's id. */
static enum kl_code add_identity(const struct tsp_otlp_resource *r, struct kl_labels_builder *b,
                                 struct kl_arena *arena, struct kl_err *err)
{
    struct kl_span  name, space, instance;
    struct kl_label job;

    if (find_text(r->resource, "service.name", arena, &name, err) != KL_OK ||
        find_text(r->resource, "service.namespace", arena, &space, err) != KL_OK ||
        find_text(r->resource, "service.instance.id", arena, &instance, err) != KL_OK)
        return err->code;
    if (name.size > 0 && space.size > 0) {
        char *at = kl_arena_alloc(arena, space.size + 1 + name.size);
        if (at == NULL)
            return kl_fail(err, KL_ELIMIT, "no room for a job");
        memcpy(at, space.at, space.size);
        at[space.size] = '/';
        memcpy(at + space.size + 1, name.at, name.size);
        name = kl_span(at, space.size + 1 + name.size);
    }
    job = (struct kl_label){ word("job"), name };
    if (name.size > 0 && tsp_otlp_label_set(b, job.name, job.value, err) != KL_OK)
        return err->code;
    return instance.size > 0 ? tsp_otlp_label_set(b, word("instance"), instance, err) : KL_OK;
}

/* Where a point keeps its attributes. */
static uint32_t attribute_number(enum tsp_otlp_kind kind)
{
    return kind == TSP_OTLP_HIST ? 9 : kind == TSP_OTLP_EXP ? 1 : 7;
}

static enum kl_code share(const struct tsp_otlp_settings *o, const struct tsp_otlp_resource *r,
                          const struct tsp_otlp_scope *s, struct kl_arena *arena, struct tsp_otlp_shared *to)
{
    struct kl_labels_builder b;
    struct pairs             p;
    struct kl_err           *err = &to->err;

    kl_labels_start(&b);
    if (add_promoted(o, r, &p, to, arena, err) != KL_OK)
        return err->code;
    if (o->scope_labels && s->name.size > 0 && add_scope(o, s, &p, &b, arena, err) != KL_OK)
        return err->code;
    if (add_identity(r, &b, arena, err) != KL_OK)
        return err->code;
    to->set_count = b.count;
    memcpy(to->set, b.pairs, b.count * sizeof b.pairs[0]);
    return KL_OK;
}

void tsp_otlp_shared(const struct tsp_otlp_settings *o, const struct tsp_otlp_resource *r,
                     const struct tsp_otlp_scope *s, struct kl_arena *arena, struct tsp_otlp_shared *shared)
{
    shared->promoted_count = shared->set_count = 0;
    if (share(o, r, s, arena, shared) == KL_OK)
        shared->err.code = KL_OK;
}

enum kl_code tsp_otlp_labels(const struct tsp_otlp_settings *o, const struct tsp_otlp_shared *shared,
                             const struct tsp_otlp_point *point, struct kl_labels_builder *b,
                             struct kl_arena *arena, struct kl_err *err)
{
    struct pairs p;

    if (shared->err.code != KL_OK) {
        *err = shared->err;
        return err->code;
    }
    if (sorted(point->body, attribute_number(point->kind), NULL, o, &p, err) != KL_OK ||
        add_attributes(o, &p, b, arena, err) != KL_OK)
        return err->code;
    for (size_t i = 0; i < shared->promoted_count; i++)
        if (find_label(b, shared->promoted[i].name) == NULL &&
            kl_labels_add(b, shared->promoted[i].name, shared->promoted[i].value, err) != KL_OK)
            return err->code;
    for (size_t i = 0; i < shared->set_count; i++)
        if (tsp_otlp_label_set(b, shared->set[i].name, shared->set[i].value, err) != KL_OK)
            return err->code;
    return KL_OK;
}

static bool not_identifying(const struct tsp_otlp_settings *o, struct kl_span key)
{
    (void)o;
    return !is_identifying(key);
}

enum kl_code tsp_otlp_target_info(const struct tsp_otlp_settings *o, const struct tsp_otlp_resource *r,
                                  struct kl_labels_builder *b, struct kl_arena *arena,
                                  struct kl_err *err)
{
    struct pairs p;

    if (sorted(r->resource, RESOURCE_ATTRIBUTE, not_identifying, o, &p, err) != KL_OK)
        return err->code;
    if (p.count == 0)
        return kl_fail(err, KL_ENOENT, "nothing but the resource's name is known");
    if (o->keep_identifying && sorted(r->resource, RESOURCE_ATTRIBUTE, NULL, o, &p, err) != KL_OK)
        return err->code;
    if (add_attributes(o, &p, b, arena, err) != KL_OK || add_identity(r, b, arena, err) != KL_OK)
        return err->code;
    if (find_label(b, word("job")) == NULL && find_label(b, word("instance")) == NULL)
        return kl_fail(err, KL_ENOENT, "nothing identifies the resource");
    return tsp_otlp_label_set(b, word("__name__"), word("target_info"), err);
}

/* ---- exemplars ---- */

static size_t characters(struct kl_span s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.size; i++)
        n += (((const uint8_t *)s.at)[i] & 0xc0) != 0x80;
    return n;
}

static enum kl_code add_id(struct kl_labels_builder *b, const char *name, struct kl_span id,
                           struct kl_arena *arena, size_t *chars, struct kl_err *err)
{
    const uint8_t    *in = id.at;
    char             *at;
    bool              any = false;

    for (size_t i = 0; i < id.size; i++)
        any = any || in[i] != 0;
    if (!any)
        return KL_OK;
    if (id.size > ID_MAX_BYTES || (at = kl_arena_alloc(arena, 2 * id.size + 1)) == NULL)
        return kl_fail(err, KL_EINVAL, "an exemplar whose %s has %zu bytes", name, id.size);
    kl_hex(in, id.size, at);
    *chars += strlen(name) + 2 * id.size;
    return kl_labels_add(b, word(name), kl_span(at, 2 * id.size), err);
}

static enum kl_code add_filtered(struct kl_labels_builder *b, struct kl_span body,
                                 struct kl_arena *arena, size_t chars, struct kl_err *err)
{
    size_t       ids = b->count;
    struct pairs p;

    if (sorted(body, EXEMPLAR_ATTRIBUTE, NULL, NULL, &p, err) != KL_OK)
        return err->code;
    for (size_t i = 0; i < p.count; i++) {
        struct kl_span value;
        if (tsp_otlp_value_text(p.at[i].value, arena, &value, err) != KL_OK)
            return err->code;
        chars += characters(p.at[i].key) + characters(value);
        if (chars > EXEMPLAR_CHARS_MAX) {
            b->count = ids;                            /* the trace is what an exemplar is for */
            return KL_OK;
        }
        if (tsp_otlp_label_set(b, p.at[i].key, value, err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

bool tsp_otlp_exemplar_next(struct kl_cur *c, const struct tsp_otlp_point *p, struct kl_arena *arena,
                            struct kl_labels_builder *b, uint64_t *time_ns, double *value,
                            struct kl_err *err)
{
    uint32_t         number = p->kind == TSP_OTLP_HIST ? 8 : p->kind == TSP_OTLP_EXP ? 11 : 5;
    struct kl_span   body, trace = { "", 0 }, span = { "", 0 };
    struct kl_cur    in;
    struct tsp_field f;
    size_t           chars = 0;

    kl_labels_start(b);
    err->code = KL_OK;
    if (!tsp_otlp_next(c, number, &body))
        return false;
    *time_ns = p->time_ns;
    *value = 0;
    for (in = tsp_wire_in(body); tsp_wire_next(&in, &f); ) {
        if (f.number == EXEMPLAR_TIME && f.type == TSP_FIXED64)
            *time_ns = f.v != 0 ? f.v : p->time_ns;
        else if (f.number == EXEMPLAR_DOUBLE && f.type == TSP_FIXED64)
            *value = kl_bits_f64(f.v);
        else if (f.number == EXEMPLAR_INT && f.type == TSP_FIXED64)
            *value = (double)(int64_t)f.v;
        else if (f.number == EXEMPLAR_SPAN && f.type == TSP_BYTES)
            span = f.bytes;
        else if (f.number == EXEMPLAR_TRACE && f.type == TSP_BYTES)
            trace = f.bytes;
    }
    if (in.bad) {
        kl_fail(err, KL_EINVAL, "an exemplar that is cut short");
        return false;
    }
    return add_id(b, "trace_id", trace, arena, &chars, err) == KL_OK &&
           add_id(b, "span_id", span, arena, &chars, err) == KL_OK &&
           add_filtered(b, body, arena, chars, err) == KL_OK;
}
