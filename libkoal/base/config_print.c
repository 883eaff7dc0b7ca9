/* A configuration, as YAML and as JSON; the help of a table. */
#include "libkoal/base/config_priv.h"

#include "libkoal/base/address.h"
#include "libkoal/base/json.h"

#include <string.h>

void kl_config_help(const struct kl_option *table, struct kl_buf *out)
{
    for (; table->path != NULL; table++) {
        kl_buf_addf(out, "  --%s\n        %s", table->path, table->help);
        if (table->choices != NULL)
            kl_buf_addf(out, " (%s)", table->choices);
        if (table->fallback != NULL && table->fallback[0] != '\0')
            kl_buf_addf(out, " [%s]", table->fallback);
        if (table->per_tenant)
            kl_buf_adds(out, " per tenant");
        if (table->live)
            kl_buf_adds(out, " reloads");
        kl_buf_adds(out, "\n");
    }
}

/* A value as a YAML (and JSON) string. */
static void put_text(struct kl_buf *out, const char *text)
{
    struct kl_buf shown = { 0 };

    kl_address_show(&shown, text);
    kl_json_str(out, kl_buf_span(&shown));
    kl_buf_deinit(&shown);
}

/* Flat keys would not read back: sections are opened where a path leaves those of the one before. */
static void print_values(const struct kl_config *c, size_t indent, struct kl_buf *out)
{
    const char *last = "";

    for (size_t i = 0; i < c->count; i++) {
        const struct kl_config_value *v = kl_config_value_said(c, i);
        const char *path = c->table[i].path, *part;
        size_t      depth = indent, same = 0;

        if (v == NULL || v->text == NULL)
            continue;
        for (size_t k = 0; path[k] != '\0' && path[k] == last[k]; k++)
            if (path[k] == '.')
                same = k + 1;                          /* the sections both lie in */
        for (part = path; strchr(part, '.') != NULL; part = strchr(part, '.') + 1, depth++)
            if ((size_t)(part - path) >= same)
                kl_buf_addf(out, "%*s%.*s:\n", (int)depth * 2, "", (int)strcspn(part, "."), part);
        kl_buf_addf(out, "%*s%s: ", (int)depth * 2, "", part);
        if (c->table[i].type == KL_OPT_LIST)
            kl_buf_adds(out, v->text);                 /* JSON is YAML */
        else
            put_text(out, v->text);
        kl_buf_adds(out, "\n");
        last = path;
    }
}

void kl_config_json(const struct kl_config *c, bool per_tenant_only, struct kl_buf *out)
{
    char comma = '{';

    for (size_t i = 0; i < c->count; i++) {
        const struct kl_option *o = &c->table[i];
        const char             *text = kl_config_value_at(c, i)->text;

        if (text == NULL || (per_tenant_only && !o->per_tenant))
            continue;
        kl_buf_addf(out, "%c\"%s\":", comma, o->path);
        comma = ',';
        if (o->type == KL_OPT_LIST)
            kl_json_cstr(out, text);
        else
            put_text(out, text);
    }
    kl_buf_adds(out, comma == '{' ? "{}" : "}");
}

void kl_config_print_common(const struct kl_config *c, struct kl_buf *out) { print_values(c, 0, out); }

void kl_config_print(const struct kl_config *c, struct kl_buf *out)
{
    const struct kl_config *view;
    const char             *name;

    kl_config_print_common(c, out);
    for (size_t i = 0; (view = kl_config_tenant_at(c, i, &name)) != NULL; i++) {
        size_t before;
        if (i == 0)
            kl_buf_adds(out, "tenants:\n");
        kl_buf_addf(out, "  \"%s\":", name);
        before = out->size;
        kl_buf_adds(out, "\n");
        print_values(view, 2, out);
        if (out->size == before + 1) {                 /* named, and nothing said */
            out->size = before;
            kl_buf_adds(out, " {}\n");
        }
    }
}
