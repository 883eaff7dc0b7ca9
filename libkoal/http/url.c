/* Paths and parameters: RFC 3986 escapes, and the form coding of the HTML standard. */
#include "libkoal/http/http_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool kl_http_decode(char *at, size_t *size, bool plus)
{
    char *to = at;

    for (const char *from = at, *end = at + *size; from < end; from++) {
        if (*from == '+' && plus) {
            *to++ = ' ';
        } else if (*from != '%') {
            *to++ = *from;
        } else {
            int high = end - from > 2 ? hex(from[1]) : -1, low = high < 0 ? -1 : hex(from[2]);
            if (low < 0)
                return false;
            *to++ = (char)(high << 4 | low);
            from += 2;
        }
    }
    *size = (size_t)(to - at);
    return true;
}

static enum kl_code add(struct kl_http_params *p, char *at, size_t size, struct kl_err *err)
{
    char  *equals = memchr(at, '=', size);
    size_t name_size = equals != NULL ? (size_t)(equals - at) : size;
    char  *value = equals != NULL ? equals + 1 : at + size;
    size_t value_size = (size_t)(at + size - value);

    if (p->count == KL_HTTP_PARAMS_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d parameters", KL_HTTP_PARAMS_MAX);
    if (!kl_http_decode(at, &name_size, true) || !kl_http_decode(value, &value_size, true))
        return kl_fail(err, KL_EINVAL, "a %% without two hex digits in a parameter");
    at[name_size] = '\0';
    value[value_size] = '\0';
    if (p->count == p->room) {
        p->room = p->room > 0 ? 2 * p->room : 8;
        p->at = kl_resize(p->at, p->room * sizeof *p->at);
    }
    p->at[p->count++] = (struct kl_http_param){ .name = at, .value = value,
                                                .value_size = value_size };
    return KL_OK;
}

enum kl_code kl_http_params_add(struct kl_http_params *p, char *query, size_t size,
                                struct kl_err *err)
{
    for (char *at = query, *end = query + size; at < end;) {
        char  *stop = memchr(at, '&', (size_t)(end - at));
        size_t part = stop != NULL ? (size_t)(stop - at) : (size_t)(end - at);

        if (part > 0 && add(p, at, part, err) != KL_OK)
            return err->code;
        at += part + 1;
    }
    return KL_OK;
}

const struct kl_http_param *kl_http_params_find(const struct kl_http_params *p, const char *name,
                                                size_t i)
{
    for (size_t k = 0; k < p->count; k++)
        if (strcmp(p->at[k].name, name) == 0 && i-- == 0)
            return &p->at[k];
    return NULL;
}

enum kl_code kl_http_path_init(struct kl_http_path *p, const char *raw, size_t size,
                               struct kl_err *err)
{
    char *parts = kl_new(size + 1);
    char *to = p->whole = kl_new(size + 1);

    *p = (struct kl_http_path){ .whole = to };
    memcpy(parts, raw, size);
    /* The parts are kept behind parts[0], which begins the allocation: see deinit. */
    p->parts[0] = parts;
    for (char *at = parts, *end = parts + size; at < end && *at == '/';) {
        char  *part = at + 1, *stop = memchr(part, '/', (size_t)(end - part));
        size_t raw_size = (size_t)((stop != NULL ? stop : end) - part), part_size = raw_size;

        if (p->count == KL_HTTP_PARTS_MAX)
            return kl_fail(err, KL_ENOENT, "a path of more than %d parts", KL_HTTP_PARTS_MAX);
        if (!kl_http_decode(part, &part_size, false))
            return kl_fail(err, KL_EINVAL, "a %% without two hex digits in the path");
        if (memchr(part, '\0', part_size) != NULL)
            return kl_fail(err, KL_EINVAL, "a NUL in the path");
        *to++ = '/';
        memcpy(to, part, part_size);
        to += part_size;
        at = part + raw_size;
        /* One to the left, over the slash, to leave room for the NUL before the next slash. */
        memmove(part - 1, part, part_size);
        part[-1 + (ptrdiff_t)part_size] = '\0';
        p->parts[p->count++] = part - 1;
    }
    return KL_OK;
}

void kl_http_path_deinit(struct kl_http_path *p)
{
    free(p->parts[0]);                                 /* the first part begins the allocation */
    free(p->whole);
}

bool kl_http_path_match(const struct kl_http_path *p, const char *route, const char **wild)
{
    const char *found = "";

    for (size_t i = 0; i < p->count; i++) {
        const char *part;
        size_t      size;

        if (*route != '/')                             /* also its end: a route of fewer parts */
            return false;
        part = route + 1;
        size = strcspn(part, "/");
        if (size == 1 && *part == '*' && p->parts[i][0] != '\0')
            found = p->parts[i];
        else if (strncmp(p->parts[i], part, size) != 0 || p->parts[i][size] != '\0')
            return false;
        route = part + size;
    }
    if (*route != '\0')
        return false;
    *wild = found;
    return true;
}

/* The next token of a list, without blanks around; what follows ';' is its parameters. */
static bool next_token(const char **list, struct kl_span *token, struct kl_span *params)
{
    const char *at = *list + strspn(*list, ", \t"), *end = at + strcspn(at, ",");
    size_t      size = strcspn(at, ";,");

    if (*at == '\0')
        return false;
    *list = end;
    *params = kl_span(at + size, (size_t)(end - at) - size);
    while (size > 0 && (at[size - 1] == ' ' || at[size - 1] == '\t'))
        size--;
    *token = kl_span(at, size);
    return true;
}

static bool is(struct kl_span token, const char *name)
{
    return token.size == strlen(name) && strncasecmp(token.at, name, token.size) == 0;
}

bool kl_http_list_has(const char *list, const char *token)
{
    struct kl_span t, params;

    while (next_token(&list, &t, &params))
        if (kl_span_eq(t, kl_span_str(token)))
            return true;
    return false;
}

/* The weight in thousandths: ";q=0.8" is 800, without one 1000. */
static unsigned weight(struct kl_span params)
{
    const char *at = params.at, *end = at + params.size;
    unsigned    q;

    while (at < end && strchr("; \t", *at) != NULL)
        at++;
    if (end - at < 3 || (at[0] | 0x20) != 'q' || at[1] != '=' || at[2] < '0' || at[2] > '1')
        return 1000;
    q = (unsigned)(at[2] - '0') * 1000;
    at += 3;
    if (at < end && *at == '.')
        for (unsigned step = 100, i = 1; at + i < end && at[i] >= '0' && at[i] <= '9'; i++, step /= 10)
            q += (unsigned)(at[i] - '0') * step;
    return q < 1000 ? q : 1000;
}

enum kl_http_coding kl_http_coding_of(const char *accept_encoding)
{
    struct kl_span token, params;
    int            gzip = -1, zstd = -1, any = 0;      /* -1: not named */

    if (accept_encoding == NULL)
        return KL_HTTP_PLAIN;
    while (next_token(&accept_encoding, &token, &params)) {
        if (is(token, "gzip") || is(token, "x-gzip"))
            gzip = (int)weight(params);
        else if (is(token, "zstd"))
            zstd = (int)weight(params);
        else if (is(token, "*"))
            any = (int)weight(params);
    }
    gzip = gzip < 0 ? any : gzip;
    zstd = zstd < 0 ? 0 : zstd;                        /* not by "*": too young to be meant */
    if (zstd > 0 && zstd >= gzip)
        return KL_HTTP_ZSTD;
    return gzip > 0 ? KL_HTTP_GZIP : KL_HTTP_PLAIN;
}

const char *kl_http_coding_name(enum kl_http_coding coding)
{
    return coding == KL_HTTP_ZSTD ? "zstd" : coding == KL_HTTP_GZIP ? "gzip" : "identity";
}
