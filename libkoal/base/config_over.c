/* What is said of tenants elsewhere than in the file, over what the file says. */
#include "libkoal/base/config_priv.h"

#include "libkoal/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum kl_code take_back(struct kl_config *view, const char *path, const char *source, struct kl_err *err)
{
    char near[120];

    if (kl_config_option(view, path) == NULL) {
        kl_config_near(view->table, path, near, sizeof near);
        return kl_fail(err, KL_EINVAL, "%s: there is no option \"%.100s\"%s", source, path, near);
    }
    for (uint32_t i = 0; i < view->said_count; i++)
        if (&view->table[view->said[i].index] == kl_config_option(view, path)) {
            free(view->said[i].value.text);
            view->said_count--;
            memmove(&view->said[i], &view->said[i + 1], (view->said_count - i) * sizeof *view->said);
            break;
        }
    return KL_OK;
}

enum kl_code kl_config_said_merge(const struct kl_option *table, struct kl_span under, const char *source,
                                  struct kl_span yaml, const char *const *unset, struct kl_buf *all,
                                  struct kl_err *err)
{
    struct kl_config *c = kl_config_new(table, NULL), *view = kl_config_view_new(c);
    enum kl_code      code = kl_config_yaml_view(view, "what was said before", under, NULL, NULL, err);
    const char       *comma = "";

    for (; code == KL_OK && *unset != NULL; unset++)
        code = take_back(view, *unset, source, err);
    if (code == KL_OK)
        code = kl_config_yaml_view(view, source, yaml, NULL, NULL, err);
    if (code == KL_OK) {
        kl_buf_adds(all, "{");
        for (uint32_t i = 0; i < view->said_count; i++) {
            kl_buf_addf(all, "%s\"%s\": ", comma, table[view->said[i].index].path);
            kl_json_cstr(all, view->said[i].value.text);
            comma = ", ";
        }
        kl_buf_adds(all, "}");
        if (!kl_buf_ok(all))
            code = kl_fail(err, KL_ELIMIT, "%s: is longer than %zu bytes", source, all->cap);
    }
    kl_config_drop(view);
    kl_config_free(c);
    return code;
}

enum kl_code kl_config_said_read(const struct kl_option *table, const char *source, struct kl_span yaml,
                                 struct kl_buf *all, struct kl_err *err)
{
    static const char *const none[] = { NULL };

    return kl_config_said_merge(table, kl_span("", 0), source, yaml, none, all, err);
}

/* The same values; the texts stay the other's. */
static void lend(const struct kl_config *from, struct kl_config *to)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct kl_config_value *v = kl_config_value_said(from, i);
        struct kl_config_value        copy;

        if (v == NULL)
            continue;
        copy = *v;
        copy.own = false;
        kl_config_keep(to, i, copy);
    }
}

static void ignore(void *ctx, const struct kl_err *err) { (void)ctx, (void)err; }

/* Value by value, so that what another version's table has does not keep the rest out. */
static void put_over(struct kl_config *c, const struct kl_config_said *s,
                     void (*refused)(void *ctx, const struct kl_err *err), void *ctx)
{
    struct kl_config *view = kl_config_tenant_view(c, s->tenant), *tried;
    struct kl_err     err;
    char              source[KL_TENANT_MAX + 32];

    if (!kl_tenant_ok(s->tenant))
        return;
    if (view == NULL)
        view = kl_config_tenant_add(c, s->tenant);
    if (view == NULL) {
        kl_fail(&err, KL_ELIMIT, "of tenant %.*s nothing more can be said: they are too many",
                (int)s->tenant.size, (const char *)s->tenant.at);
        if (refused != NULL)
            refused(ctx, &err);
        return;
    }
    snprintf(source, sizeof source, "override of tenant %.*s", (int)s->tenant.size, (const char *)s->tenant.at);
    tried = kl_config_view_new(c);
    if (kl_config_yaml_view(tried, source, s->all, refused != NULL ? refused : ignore, ctx, &err) != KL_OK &&
        refused != NULL)
        refused(ctx, &err);
    for (uint32_t i = 0; i < tried->said_count; i++) {
        kl_config_keep(view, tried->said[i].index, tried->said[i].value);
        tried->said[i].value.own = false;              /* it went over */
    }
    kl_config_drop(tried);
}

struct kl_config *kl_config_over(const struct kl_config *base, const struct kl_config_said *said, size_t count,
                                 void (*refused)(void *ctx, const struct kl_err *err), void *ctx)
{
    struct kl_config       *c = kl_config_new(base->table, base->file);
    const struct kl_config *view;
    const char             *name;

    c->base = kl_config_ref(base);
    lend(base, c);
    for (size_t i = 0; (view = kl_config_tenant_at(base, i, &name)) != NULL; i++)
        lend(view, kl_config_tenant_add(c, kl_span_str(name)));
    for (size_t i = 0; i < count; i++)
        put_over(c, &said[i], refused, ctx);
    return c;
}
