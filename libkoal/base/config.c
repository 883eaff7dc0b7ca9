#include "libkoal/base/config.h"

#include "libkoal/base/config_priv.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t table_size(const struct kl_option *table)
{
    size_t n = 0;

    while (table[n].path != NULL)
        n++;
    return n;
}

/* Paths are compared with '-' and '_' alike. */
static bool same_path(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++)
        if (*a != *b && !((*a == '-' || *a == '_') && (*b == '-' || *b == '_')))
            return false;
    return *a == *b;
}

static const struct kl_option *look(const struct kl_config *c, const char *path, size_t *index)
{
    for (size_t i = 0; i < c->count; i++)
        if (same_path(c->table[i].path, path)) {
            *index = i;
            return &c->table[i];
        }
    return NULL;
}

const struct kl_option *kl_config_option(const struct kl_config *c, const char *path)
{
    size_t i;

    return look(c, path, &i);
}

bool kl_config_is_section(const struct kl_config *c, const char *path)
{
    size_t n = strlen(path);

    for (size_t i = 0; i < c->count; i++)
        if (strncmp(c->table[i].path, path, n) == 0 && c->table[i].path[n] == '.')
            return true;
    return false;
}

/* ---- values ---- */

static void put_where(const struct kl_config *c, const char *path, struct kl_config_place place,
                      char *out, size_t size)
{
    const char *file = c->file == NULL && c->all != NULL ? c->all->file : c->file;
    char        variable[160];

    switch (place.from) {
    case KL_FROM_DEFAULT: snprintf(out, size, "default"); break;
    case KL_FROM_FLAG:    snprintf(out, size, "flag --%.120s", path); break;
    case KL_FROM_ENV:
        kl_config_variable(path, variable, sizeof variable);
        snprintf(out, size, "%s", variable);
        break;
    case KL_FROM_FILE:
        snprintf(out, size, "%.200s, line %" PRIu32 ", column %" PRIu32, file != NULL ? file : "the file",
                 place.line, place.column);
        break;
    }
}

/* Where a view's `said` has row i, or would have it. */
static uint32_t said_slot(const struct kl_config *c, size_t i)
{
    uint32_t at = 0;

    while (at < c->said_count && c->said[at].index < i)
        at++;
    return at;
}

const struct kl_config_value *kl_config_value_said(const struct kl_config *c, size_t i)
{
    uint32_t at;

    if (c->values != NULL)
        return &c->values[i];
    at = said_slot(c, i);
    return at < c->said_count && c->said[at].index == i ? &c->said[at].value : NULL;
}

const struct kl_config_value *kl_config_value_at(const struct kl_config *c, size_t i)
{
    const struct kl_config_value *v = kl_config_value_said(c, i);

    return v != NULL ? v : &c->all->values[i];
}

void kl_config_keep(struct kl_config *c, size_t i, struct kl_config_value value_take)
{
    struct kl_config_value *v = (struct kl_config_value *)kl_config_value_said(c, i);
    uint32_t                at;

    if (v == NULL) {
        at = said_slot(c, i);
        c->said = kl_resize(c->said, (c->said_count + 1) * sizeof *c->said);
        memmove(&c->said[at + 1], &c->said[at], (c->said_count - at) * sizeof *c->said);
        c->said_count++;
        c->said[at] = (struct kl_config_own){ .index = (uint32_t)i };
        v = &c->said[at].value;
    }
    if (v->own)
        free(v->text);
    *v = value_take;
}

static enum kl_code set(struct kl_config *c, size_t i, const char *text, struct kl_config_place place,
                        struct kl_err *err)
{
    struct kl_config_value v = { .place = place, .own = true };
    char                   where[260];

    put_where(c, c->table[i].path, place, where, sizeof where);
    if (kl_config_value_read(&c->table[i], text, where, &v.text, &v.number, err) != KL_OK)
        return err->code;
    kl_config_keep(c, i, v);
    return KL_OK;
}

enum kl_code kl_config_set(struct kl_config *c, const char *path, const char *text,
                           struct kl_config_place place, struct kl_err *err)
{
    char   where[260], near[120];
    size_t i;

    if (look(c, path, &i) != NULL)
        return set(c, i, text, place, err);
    put_where(c, path, place, where, sizeof where);
    kl_config_near(c->table, path, near, sizeof near);
    return kl_fail(err, KL_EINVAL, "%s: there is no option \"%.100s\"%s", where, path, near);
}

/* ---- where they come from ---- */

void kl_config_variable(const char *path, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "KOALEMOS_");

    for (; *path != '\0' && at + 1 < size; path++)
        out[at++] = *path == '.' || *path == '-' ? '_' : (char)toupper((unsigned char)*path);
    out[at] = '\0';
}

/* Variables that name no option are not ours: Kubernetes makes some that begin alike. */
static enum kl_code from_env(struct kl_config *c, const char *const *env, struct kl_err *err)
{
    char name[160];

    for (size_t i = 0; i < c->count; i++) {
        size_t n;
        kl_config_variable(c->table[i].path, name, sizeof name);
        n = strlen(name);
        for (const char *const *e = env; *e != NULL; e++)
            if (strncmp(*e, name, n) == 0 && (*e)[n] == '=' &&
                set(c, i, *e + n + 1, (struct kl_config_place){ .from = KL_FROM_ENV }, err) != KL_OK)
                return err->code;
    }
    return KL_OK;
}

static enum kl_code from_args(struct kl_config *c, const char *const *args, struct kl_err *err)
{
    for (; *args != NULL; args++) {
        char        path[128], near[120];
        const char *eq = strchr(*args, '=');
        size_t      n = eq != NULL ? (size_t)(eq - *args) : strlen(*args), i;

        if (strncmp(*args, "--", 2) != 0 || n >= sizeof path)
            return kl_fail(err, KL_EINVAL, "\"%.80s\" is no flag: flags read --name=value", *args);
        memcpy(path, *args + 2, n - 2);
        path[n - 2] = '\0';
        if (look(c, path, &i) == NULL) {
            kl_config_near(c->table, path, near, sizeof near);
            return kl_fail(err, KL_EINVAL, "there is no flag --%s%s", path, near);
        }
        if (eq == NULL && c->table[i].type != KL_OPT_BOOL)
            return kl_fail(err, KL_EINVAL, "flag --%s wants a value", path);
        if (set(c, i, eq != NULL ? eq + 1 : "true", (struct kl_config_place){ .from = KL_FROM_FLAG },
                err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

struct kl_config *kl_config_new(const struct kl_option *table, const char *file)
{
    struct kl_config *c = kl_new(sizeof *c);

    atomic_init(&c->refs, 1);
    c->table = table;
    c->count = table_size(table);
    c->values = kl_new((c->count + 1) * sizeof *c->values);
    c->file = file != NULL ? kl_strdup(file) : NULL;
    return c;
}

enum kl_code kl_config_load(const struct kl_option *table, const char *file, struct kl_span yaml,
                            const char *const *env, const char *const *args,
                            struct kl_config **config, struct kl_err *err)
{
    struct kl_config *c = kl_config_new(table, file);
    enum kl_code      code = KL_OK;

    for (size_t i = 0; i < c->count && code == KL_OK; i++)
        if (table[i].fallback != NULL)
            code = set(c, i, table[i].fallback, (struct kl_config_place){ .from = KL_FROM_DEFAULT }, err);
    if (code == KL_OK && yaml.size > 0)
        code = kl_config_yaml(c, yaml, NULL, NULL, err);
    if (code == KL_OK && env != NULL)
        code = from_env(c, env, err);
    if (code == KL_OK && args != NULL)
        code = from_args(c, args, err);
    if (code != KL_OK) {
        kl_config_free(c);
        return code;
    }
    *config = c;
    return KL_OK;
}

struct faults { void (*fault)(void *ctx, const struct kl_err *err); void *ctx; size_t count; };

static void count_fault(void *ctx, const struct kl_err *err)
{
    struct faults *f = ctx;

    f->count++;
    f->fault(f->ctx, err);
}

size_t kl_config_faults(const struct kl_option *table, const char *file, struct kl_span yaml,
                        void (*fault)(void *ctx, const struct kl_err *err), void *ctx)
{
    struct faults     f = { fault, ctx, 0 };
    struct kl_config *c = kl_config_new(table, file);
    struct kl_err     err;

    if (kl_config_yaml(c, yaml, count_fault, &f, &err) != KL_OK)
        count_fault(&f, &err);
    kl_config_free(c);
    return f.count;
}

struct kl_config *kl_config_ref(const struct kl_config *c)
{
    struct kl_config *own = (struct kl_config *)(uintptr_t)c;

    atomic_fetch_add_explicit(&own->refs, 1, memory_order_relaxed);
    return own;
}

void kl_config_drop(struct kl_config *c)
{
    kl_config_tenants_free(c);
    for (size_t i = 0; c->values != NULL && i < c->count; i++)
        if (c->values[i].own)
            free(c->values[i].text);
    for (uint32_t i = 0; i < c->said_count; i++)
        if (c->said[i].value.own)
            free(c->said[i].value.text);
    free(c->values);
    free(c->said);
    free(c->file);
    kl_config_free(c->base);
    free(c);
}

void kl_config_free(struct kl_config *c)
{
    if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        kl_config_drop(c);
}

/* ---- asking ---- */

static const struct kl_config_value *get(const struct kl_config *c, const char *path)
{
    size_t i;

    if (look(c, path, &i) == NULL)
        abort();                                       /* the program asks for what no table has */
    return kl_config_value_at(c, i);
}

const char *kl_config_text(const struct kl_config *c, const char *path) { return get(c, path)->text; }
const struct kl_option *kl_config_options(const struct kl_config *c) { return c->table; }
int64_t     kl_config_int(const struct kl_config *c, const char *path) { return get(c, path)->number; }
bool        kl_config_bool(const struct kl_config *c, const char *path) { return get(c, path)->number != 0; }

void kl_config_where(const struct kl_config *c, const char *path, char *out, size_t size)
{
    put_where(c, path, get(c, path)->place, out, size);
}

/* ---- what has changed ---- */

static bool same_value(const struct kl_config_value *a, const struct kl_config_value *b)
{
    if (a == NULL || b == NULL || a->text == NULL || b->text == NULL)
        return (a == NULL || a->text == NULL) == (b == NULL || b->text == NULL);
    return strcmp(a->text, b->text) == 0;
}

static bool same_tenants(const struct kl_config *a, const struct kl_config *b)
{
    const struct kl_config *x, *y;
    const char             *name;
    size_t                  n = 0;

    for (; (x = kl_config_tenant_at(a, n, &name)) != NULL; n++) {
        y = kl_config_tenant(b, kl_span_str(name));
        if (y == b)
            return false;
        for (size_t i = 0; i < a->count; i++)
            if (!same_value(kl_config_value_said(x, i), kl_config_value_said(y, i)))
                return false;
    }
    return kl_config_tenant_at(b, n, &name) == NULL;   /* as many, and each of them is there */
}

size_t kl_config_changes(const struct kl_config *a, const struct kl_config *b, bool live,
                         struct kl_buf *names)
{
    size_t n = 0;

    for (size_t i = 0; i < a->count; i++)
        if (a->table[i].live == live &&
            !same_value(kl_config_value_at(a, i), kl_config_value_at(b, i)))
            kl_buf_addf(names, "%s%s", n++ > 0 ? ", " : "", a->table[i].path);
    if (live && !same_tenants(a, b))
        kl_buf_addf(names, "%stenants", n++ > 0 ? ", " : "");
    return n;
}
