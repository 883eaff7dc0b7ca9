#include "libkoal/base/config.h"

#include "libkoal/base/config_priv.h"
#include "libkoal/base/json.h"

#include <ctype.h>
#include <errno.h>
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

/* ---- values ---- */

struct unit { const char *name; int64_t factor; };
static const struct unit sizes[] = { { "B", 1 }, { "KiB", 1 << 10 }, { "MiB", 1 << 20 },
                                     { "GiB", 1 << 30 }, { "TiB", (int64_t)1 << 40 }, { NULL, 0 } };
static const struct unit times[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 },
                                     { "d", 86400000 }, { "w", 604800000 }, { "y", 31536000000 },
                                     { NULL, 0 } };

static const struct unit *unit_at(const struct unit *units, const char *at, size_t size)
{
    for (; units->name != NULL; units++)
        if (strlen(units->name) == size && strncmp(units->name, at, size) == 0)
            return units;
    return NULL;
}

/* "90", "64MiB", "1h30m": numbers with units, added up; a bare number only alone. */
static bool parse_units(const struct unit *units, const char *text, int64_t *out)
{
    int64_t sum = 0;
    bool    negative = *text == '-';

    text += negative;
    if (*text == '\0')
        return false;
    while (*text != '\0') {
        const struct unit *u;
        char              *end;
        size_t             n = 0;
        int64_t            number, part;

        if (!isdigit((unsigned char)*text))
            return false;
        errno = 0;
        number = strtoll(text, &end, 10);
        while (isalpha((unsigned char)end[n]))
            n++;
        u = unit_at(units, end, n);
        if (n == 0 && *end == '\0' && sum == 0)
            u = &units[0];                             /* the unit itself */
        if (errno != 0 || u == NULL || __builtin_mul_overflow(number, u->factor, &part) ||
            __builtin_add_overflow(sum, part, &sum))
            return false;
        text = end + n;
    }
    *out = negative ? -sum : sum;
    return true;
}

static bool parse_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);

    for (const char *at = choices; n > 0; at++) {
        size_t k = strcspn(at, "|");
        if (k == n && strncmp(at, text, n) == 0)
            return true;
        at += k;
        if (*at == '\0')
            break;
    }
    return false;
}

static bool parse_bool(const char *text, int64_t *out)
{
    *out = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "on") == 0;
    return *out || strcmp(text, "false") == 0 || strcmp(text, "no") == 0 || strcmp(text, "off") == 0;
}

static const char *const wants[] = {
    [KL_OPT_TEXT] = "a text", [KL_OPT_INT] = "a whole number", [KL_OPT_BOOL] = "true or false",
    [KL_OPT_BYTES] = "a size, as 64MiB", [KL_OPT_MS] = "a duration, as 500ms or 2h",
    [KL_OPT_CHOICE] = "a choice", [KL_OPT_LIST] = "a list of maps",
};
static const struct unit plain[] = { { "", 1 }, { NULL, 0 } };

static void keep(struct kl_config *c, size_t i, char *text_take, int64_t number)
{
    free(c->values[i].text);
    c->values[i] = (struct kl_config_value){ .text = text_take, .number = number, .own = true };
}

static enum kl_code set_list(struct kl_config *c, size_t i, const char *text, const char *where,
                             struct kl_err *err)
{
    const struct kl_option *o = &c->table[i];
    struct kl_buf list;
    struct kl_err why;
    enum kl_code  code;

    kl_buf_init(&list, KL_CONFIG_TEXT_MAX);
    code = kl_config_list_text(kl_span_str(text), &list, &why);
    kl_buf_add8(&list, 0);
    if (code == KL_OK && !kl_buf_ok(&list))
        code = kl_fail(&why, KL_ELIMIT, "is too long");
    if (code == KL_OK && o->check != NULL)
        code = o->check(list.at, &why);
    if (code == KL_OK)
        keep(c, i, kl_strdup(list.at), 0);
    else
        kl_fail(err, KL_EINVAL, "%s: %s: %s", where, o->path, why.text);
    kl_buf_deinit(&list);
    return code == KL_OK ? KL_OK : KL_EINVAL;
}

static enum kl_code set(struct kl_config *c, size_t i, const char *text, const char *where,
                        struct kl_err *err)
{
    const struct kl_option *o = &c->table[i];
    struct kl_err why;
    int64_t number = 0;
    bool    good = true;

    switch (o->type) {
    case KL_OPT_LIST:   return set_list(c, i, text, where, err);
    case KL_OPT_TEXT:   break;
    case KL_OPT_INT:    good = parse_units(plain, text, &number); break;
    case KL_OPT_BYTES:  good = parse_units(sizes, text, &number); break;
    case KL_OPT_MS:     good = parse_units(times, text, &number); break;
    case KL_OPT_BOOL:   good = parse_bool(text, &number); break;
    case KL_OPT_CHOICE: good = parse_choice(o->choices, text); break;
    }
    if (!good && o->type == KL_OPT_CHOICE)
        return kl_fail(err, KL_EINVAL, "%s: %s is \"%.60s\", and should be one of %s", where, o->path,
                       text, o->choices);
    if (!good)
        return kl_fail(err, KL_EINVAL, "%s: %s is \"%.60s\", and should be %s", where, o->path, text,
                       wants[o->type]);
    if (o->type != KL_OPT_TEXT && o->type != KL_OPT_BOOL && o->type != KL_OPT_CHOICE &&
        (number < o->least || number > o->most))
        return kl_fail(err, KL_EINVAL, "%s: %s is \"%.60s\", and should lie from %" PRId64
                       " to %" PRId64, where, o->path, text, o->least, o->most);
    if (o->check != NULL && o->check(text, &why) != KL_OK)
        return kl_fail(err, KL_EINVAL, "%s: %s: %s", where, o->path, why.text);
    keep(c, i, kl_strdup(text), number);
    return KL_OK;
}

enum kl_code kl_config_set(struct kl_config *c, const char *path, const char *text,
                           const char *where, struct kl_err *err)
{
    size_t i;

    if (look(c, path, &i) == NULL)
        return kl_fail(err, KL_EINVAL, "%s: there is no option \"%.100s\"; --help lists them", where,
                       path);
    return set(c, i, text, where, err);
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

/* ---- where they come from ---- */

static void variable_name(const char *path, char *out, size_t size)
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
        variable_name(c->table[i].path, name, sizeof name);
        n = strlen(name);
        for (const char *const *e = env; *e != NULL; e++)
            if (strncmp(*e, name, n) == 0 && (*e)[n] == '=' && set(c, i, *e + n + 1, name, err) != KL_OK)
                return err->code;
    }
    return KL_OK;
}

static enum kl_code from_args(struct kl_config *c, const char *const *args, struct kl_err *err)
{
    for (; *args != NULL; args++) {
        char        path[128];
        const char *eq = strchr(*args, '=');
        size_t      n = eq != NULL ? (size_t)(eq - *args) : strlen(*args), i;

        if (strncmp(*args, "--", 2) != 0 || n >= sizeof path)
            return kl_fail(err, KL_EINVAL, "\"%.80s\" is no flag: flags read --name=value", *args);
        memcpy(path, *args + 2, n - 2);
        path[n - 2] = '\0';
        if (look(c, path, &i) == NULL)
            return kl_fail(err, KL_EINVAL, "there is no flag --%s; --help lists them", path);
        if (eq == NULL && c->table[i].type != KL_OPT_BOOL)
            return kl_fail(err, KL_EINVAL, "flag --%s wants a value", path);
        if (set(c, i, eq != NULL ? eq + 1 : "true", "flag", err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

struct kl_config *kl_config_new(const struct kl_option *table)
{
    struct kl_config *c = kl_new(sizeof *c);

    c->table = table;
    c->count = table_size(table);
    c->values = kl_new((c->count + 1) * sizeof *c->values);
    return c;
}

enum kl_code kl_config_load(const struct kl_option *table, const char *file, struct kl_span yaml,
                            const char *const *env, const char *const *args,
                            struct kl_config **config, struct kl_err *err)
{
    struct kl_config *c = kl_config_new(table);
    enum kl_code      code = KL_OK;

    for (size_t i = 0; i < c->count && code == KL_OK; i++)
        if (table[i].fallback != NULL)
            code = set(c, i, table[i].fallback, "default", err);
    if (code == KL_OK && yaml.size > 0)
        code = kl_config_yaml(c, file, yaml, err);
    if (code == KL_OK && env != NULL)
        code = from_env(c, env, err);
    if (code == KL_OK && args != NULL)
        code = from_args(c, args, err);
    if (code != KL_OK) {
        kl_config_free(c);
        return code;
    }
    kl_config_tenants_inherit(c);
    *config = c;
    return KL_OK;
}

void kl_config_free(struct kl_config *c)
{
    if (c == NULL)
        return;
    kl_config_tenants_free(c);
    for (size_t i = 0; i < c->count; i++)
        if (c->values[i].own)
            free(c->values[i].text);
    free(c->values);
    free(c);
}

/* ---- asking ---- */

static const struct kl_config_value *get(const struct kl_config *c, const char *path)
{
    size_t i;

    if (look(c, path, &i) == NULL)
        abort();                                       /* the program asks for what no table has */
    return &c->values[i];
}

const char *kl_config_text(const struct kl_config *c, const char *path) { return get(c, path)->text; }
const struct kl_option *kl_config_options(const struct kl_config *c) { return c->table; }
int64_t     kl_config_int(const struct kl_config *c, const char *path) { return get(c, path)->number; }
bool        kl_config_bool(const struct kl_config *c, const char *path) { return get(c, path)->number != 0; }

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
        kl_buf_adds(out, "\n");
    }
}

/* A value as a YAML (and JSON) string. What stands before the @ of an address is a secret. */
static void put_text(struct kl_buf *out, const char *text)
{
    struct kl_buf shown = { 0 };
    const char   *mark, *at;

    while ((mark = strstr(text, "://")) != NULL) {
        kl_buf_add(&shown, text, (size_t)(mark + 3 - text));
        text = mark + 3;
        at = text + strcspn(text, "@,/");
        if (*at == '@') {
            kl_buf_adds(&shown, "***");
            text = at;
        }
    }
    kl_buf_adds(&shown, text);
    kl_json_str(out, kl_buf_span(&shown));
    kl_buf_deinit(&shown);
}

/* Flat keys would not read back: sections are opened where a path leaves those of the one before. */
static void print_values(const struct kl_config *c, size_t indent, struct kl_buf *out)
{
    const char *last = "";

    for (size_t i = 0; i < c->count; i++) {
        const char *path = c->table[i].path, *part;
        size_t      depth = indent, same = 0;

        if (c->values[i].text == NULL || !c->values[i].own)
            continue;
        for (size_t k = 0; path[k] != '\0' && path[k] == last[k]; k++)
            if (path[k] == '.')
                same = k + 1;                          /* the sections both lie in */
        for (part = path; strchr(part, '.') != NULL; part = strchr(part, '.') + 1, depth++)
            if ((size_t)(part - path) >= same)
                kl_buf_addf(out, "%*s%.*s:\n", (int)depth * 2, "", (int)strcspn(part, "."), part);
        kl_buf_addf(out, "%*s%s: ", (int)depth * 2, "", part);
        if (c->table[i].type == KL_OPT_LIST)
            kl_buf_adds(out, c->values[i].text);       /* JSON is YAML */
        else
            put_text(out, c->values[i].text);
        kl_buf_adds(out, "\n");
        last = path;
    }
}

void kl_config_json(const struct kl_config *c, bool per_tenant_only, struct kl_buf *out)
{
    char comma = '{';

    for (size_t i = 0; i < c->count; i++) {
        const struct kl_option *o = &c->table[i];
        const char             *text = get(c, o->path)->text;

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

void kl_config_print(const struct kl_config *c, struct kl_buf *out)
{
    const struct kl_config *view;
    const char             *name;

    print_values(c, 0, out);
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
