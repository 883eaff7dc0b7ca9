/* A table of options, as a page for people and as a JSON schema for their editors. */
#include "libkoal/base/config_priv.h"

#include "libkoal/base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the page ---- */

static bool in_section(const struct kl_option *o, const char *section)
{
    size_t n = strlen(section);

    return n == 0 ? strchr(o->path, '.') == NULL
                  : strncmp(o->path, section, n) == 0 && o->path[n] == '.';
}

/* A cell of a table: what would end it is escaped. */
static void cell(struct kl_buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|' || *text == '<' || *text == '*' || *text == '_')
            kl_buf_add8(out, '\\');
        kl_buf_add8(out, (uint8_t)*text);
    }
}

static const char *const names[] = {
    [KL_OPT_TEXT] = "text", [KL_OPT_INT] = "number", [KL_OPT_BOOL] = "true, false",
    [KL_OPT_BYTES] = "size", [KL_OPT_MS] = "duration", [KL_OPT_CHOICE] = "", [KL_OPT_LIST] = "list of maps",
};

static void type_of(const struct kl_option *o, struct kl_buf *out)
{
    char least[KL_CONFIG_NUMBER_MAX], most[KL_CONFIG_NUMBER_MAX];

    if (o->type == KL_OPT_CHOICE) {
        for (const char *c = o->choices; *c != '\0'; c++)
            if (*c == '|')
                kl_buf_adds(out, ", ");
            else
                kl_buf_add8(out, (uint8_t)*c);
        return;
    }
    kl_buf_adds(out, names[o->type]);
    if (o->type != KL_OPT_INT && o->type != KL_OPT_BYTES && o->type != KL_OPT_MS)
        return;
    kl_config_value_write(o->type, o->least, least);
    kl_config_value_write(o->type, o->most, most);
    kl_buf_addf(out, ", %s to %s", least, most);
}

static void row(const struct kl_option *o, struct kl_buf *out)
{
    kl_buf_addf(out, "| `%s` | ", o->path);
    type_of(o, out);
    if (o->fallback == NULL)
        kl_buf_adds(out, " | | ");
    else
        kl_buf_addf(out, " | `%s` | ", o->fallback[0] != '\0' ? o->fallback : "\"\"");
    kl_buf_adds(out, o->live ? "reload" : "restart");
    kl_buf_adds(out, o->per_tenant ? ", tenant | " : " | ");
    cell(out, o->help);
    kl_buf_adds(out, " |\n");
}

void kl_config_markdown(const struct kl_option *table, const struct kl_config_section *sections,
                        struct kl_buf *out)
{
    for (const struct kl_config_section *s = sections; s->name != NULL; s++) {
        kl_buf_addf(out, "\n## %s\n\n%s\n\n| option | value | default | changes by | |\n|---|---|---|---|---|\n",
                    s->name[0] != '\0' ? s->name : "In general", s->about);
        for (const struct kl_option *o = table; o->path != NULL; o++)
            if (in_section(o, s->name))
                row(o, out);
    }
}

/* ---- the schema ---- */

static void numbers(const struct kl_option *o, const char *pattern, struct kl_buf *out)
{
    kl_buf_addf(out, "\"anyOf\":[{\"type\":\"integer\",\"minimum\":%" PRId64 ",\"maximum\":%" PRId64 "},"
                "{\"type\":\"string\",\"pattern\":", o->least, o->most);
    kl_json_cstr(out, pattern);
    kl_buf_adds(out, "}]");
}

static void choices(const char *list, struct kl_buf *out)
{
    const char *comma = "";

    kl_buf_adds(out, "\"enum\":[");
    for (size_t n; *list != '\0'; list += n + (list[n] == '|')) {
        n = strcspn(list, "|");
        kl_buf_adds(out, comma);
        kl_json_str(out, kl_span(list, n));
        comma = ",";
    }
    kl_buf_adds(out, "]");
}

static void property(const struct kl_option *o, bool fallback, struct kl_buf *out)
{
    static const char scalar[] = "{\"type\":[\"string\",\"number\",\"boolean\"]}";

    kl_buf_adds(out, "{\"description\":");
    kl_json_cstr(out, o->help);
    if (fallback && o->fallback != NULL) {
        kl_buf_adds(out, ",\"default\":");
        if (o->type == KL_OPT_BOOL)
            kl_buf_adds(out, o->fallback);
        else
            kl_json_cstr(out, o->fallback);
    }
    kl_buf_adds(out, ",");
    switch (o->type) {
    case KL_OPT_TEXT:
        kl_buf_addf(out, "\"anyOf\":[%s,{\"type\":\"array\",\"items\":%s}]", scalar, scalar);
        break;
    case KL_OPT_INT:    numbers(o, "^-?[0-9]+$", out); break;
    case KL_OPT_BYTES:  numbers(o, "^([0-9]+|([0-9]+(B|KiB|MiB|GiB|TiB))+)$", out); break;
    case KL_OPT_MS:     numbers(o, "^([0-9]+|([0-9]+(ms|s|m|h|d|w|y))+)$", out); break;
    case KL_OPT_BOOL:
        kl_buf_adds(out, "\"enum\":[true,false,\"true\",\"false\",\"yes\",\"no\",\"on\",\"off\"]");
        break;
    case KL_OPT_CHOICE: choices(o->choices, out); break;
    case KL_OPT_LIST:
        kl_buf_addf(out, "\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"object\",\"minProperties\":1,"
                    "\"additionalProperties\":{\"anyOf\":[%s,{\"type\":\"array\",\"items\":%s}]}}", scalar, scalar);
        break;
    }
    kl_buf_adds(out, "}");
}

static bool wanted(const struct kl_option *o, bool tenants) { return !tenants || o->per_tenant; }

/* Has a row before `o` opened this section already? */
static bool seen(const struct kl_option *table, const struct kl_option *o, size_t size, bool tenants)
{
    for (; table < o; table++)
        if (wanted(table, tenants) && strncmp(table->path, o->path, size) == 0 && table->path[size] == '.')
            return true;
    return false;
}

/* All below the first `depth` bytes of a path: "" or "store." of store.url. */
static void object(const struct kl_option *table, const char *prefix, size_t depth, bool tenants,
                   struct kl_buf *out)
{
    const char *comma = "";

    kl_buf_adds(out, "\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    for (const struct kl_option *o = table; o->path != NULL; o++) {
        size_t n;
        if (!wanted(o, tenants) || strncmp(o->path, prefix, depth) != 0)
            continue;
        n = depth + strcspn(o->path + depth, ".");
        if (o->path[n] == '.' && seen(table, o, n, tenants))
            continue;
        kl_buf_adds(out, comma);
        comma = ",\n";
        kl_json_str(out, kl_span(o->path + depth, n - depth));
        kl_buf_adds(out, ":");
        if (o->path[n] == '\0') {
            property(o, !tenants, out);
        } else {
            kl_buf_adds(out, "{");
            object(table, o->path, n + 1, tenants, out);
            kl_buf_adds(out, "}");
        }
    }
    if (depth == 0 && !tenants) {
        kl_buf_addf(out, "%s\"tenants\":{\"description\":\"what is said of single tenants\",\"type\":\"object\","
                    "\"propertyNames\":{\"pattern\":\"^[A-Za-z0-9_.-]{1,%d}$\"},\"additionalProperties\":{",
                    comma, KL_TENANT_MAX);
        object(table, "", 0, true, out);
        kl_buf_adds(out, "}}");
    }
    kl_buf_adds(out, "}");
}

void kl_config_schema(const struct kl_option *table, struct kl_buf *out)
{
    kl_buf_adds(out, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"Koalemos\",\n");
    object(table, "", 0, false, out);
    kl_buf_adds(out, "}\n");
}
