/* What a value may be: numbers with units, choices, lists; and the words for what is none. */
#include "libkoal/base/config_priv.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit { const char *name; int64_t factor; };
static const struct unit sizes[] = { { "B", 1 }, { "KiB", 1 << 10 }, { "MiB", 1 << 20 },
                                     { "GiB", 1 << 30 }, { "TiB", (int64_t)1 << 40 }, { NULL, 0 } };
static const struct unit times[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 },
                                     { "d", 86400000 }, { "w", 604800000 }, { "y", 31536000000 },
                                     { NULL, 0 } };
static const struct unit plain[] = { { "", 1 }, { NULL, 0 } };

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

void kl_config_value_write(enum kl_option_type type, int64_t number, char out[KL_CONFIG_NUMBER_MAX])
{
    const struct unit *units = type == KL_OPT_BYTES ? sizes : type == KL_OPT_MS ? times : plain;
    const struct unit *best = units;

    for (const struct unit *u = units; u->name != NULL && number != 0; u++)
        if (number % u->factor == 0 && strcmp(u->name, "w") != 0)
            best = u;
    snprintf(out, KL_CONFIG_NUMBER_MAX, "%" PRId64 "%s", number / best->factor, number == 0 ? "" : best->name);
}

static enum kl_code read_list(const struct kl_option *o, const char *text, const char *where,
                              char **value_text, struct kl_err *err)
{
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
        *value_text = kl_strdup(list.at);
    else
        kl_fail(err, KL_EINVAL, "%s: %s: %s", where, o->path, why.text);
    kl_buf_deinit(&list);
    return code == KL_OK ? KL_OK : KL_EINVAL;
}

static enum kl_code out_of_range(const struct kl_option *o, const char *text, const char *where,
                                 struct kl_err *err)
{
    char least[KL_CONFIG_NUMBER_MAX], most[KL_CONFIG_NUMBER_MAX];

    kl_config_value_write(o->type, o->least, least);
    kl_config_value_write(o->type, o->most, most);
    return kl_fail(err, KL_EINVAL, "%s: %s is \"%.60s\", and should lie from %s to %s", where, o->path,
                   text, least, most);
}

enum kl_code kl_config_value_read(const struct kl_option *o, const char *text, const char *where,
                                  char **value_text, int64_t *number, struct kl_err *err)
{
    struct kl_err why;
    int64_t n = 0;
    bool    good = true, counted = false;

    switch (o->type) {
    case KL_OPT_LIST:   *number = 0; return read_list(o, text, where, value_text, err);
    case KL_OPT_TEXT:   break;
    case KL_OPT_INT:    counted = true; good = parse_units(plain, text, &n); break;
    case KL_OPT_BYTES:  counted = true; good = parse_units(sizes, text, &n); break;
    case KL_OPT_MS:     counted = true; good = parse_units(times, text, &n); break;
    case KL_OPT_BOOL:   good = parse_bool(text, &n); break;
    case KL_OPT_CHOICE: good = parse_choice(o->choices, text); break;
    }
    if (!good && o->type == KL_OPT_CHOICE)
        return kl_fail(err, KL_EINVAL, "%s: %s is \"%.60s\", and should be one of %s", where, o->path,
                       text, o->choices);
    if (!good)
        return kl_fail(err, KL_EINVAL, "%s: %s is \"%.60s\", and should be %s", where, o->path, text,
                       wants[o->type]);
    if (counted && (n < o->least || n > o->most))
        return out_of_range(o, text, where, err);
    if (o->check != NULL && o->check(text, &why) != KL_OK)
        return kl_fail(err, KL_EINVAL, "%s: %s: %s", where, o->path, why.text);
    *value_text = kl_strdup(text);
    *number = n;
    return KL_OK;
}
