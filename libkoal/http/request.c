/* A request, as its handler sees it. One thread at a time: the server's, then the handler's. */
#include "libkoal/http/http_priv.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { BODY_FIRST_ROOM = 64 * 1024 };

const char *kl_http_method(const struct kl_http_request *r) { return r->method; }
const char *kl_http_path(const struct kl_http_request *r) { return r->path.whole; }
const char *kl_http_wild(const struct kl_http_request *r) { return r->wild; }
unsigned    kl_http_connection(const struct kl_http_request *r) { return r->number; }
bool        kl_http_is_local(const struct kl_http_request *r) { return r->local; }
const char *kl_http_id(const struct kl_http_request *r) { return r->id; }
const struct kl_trace *kl_http_trace(const struct kl_http_request *r) { return &r->trace; }
const char *kl_http_key(const struct kl_http_request *r) { return r->verdict.key; }

struct kl_span kl_http_body(const struct kl_http_request *r)
{
    return kl_span(r->body != NULL ? r->body : "", r->body_size);
}

static void body_forget(struct kl_http_request *r)
{
    if (r->body_room > 0)
        kl_budget_give(r->bodies, r->body_room);
    r->body = NULL;
    r->body_size = r->body_room = 0;
}

void kl_http_body_take(struct kl_http_request *r, char **bytes, size_t *size)
{
    *bytes = r->body != NULL ? r->body : kl_new(1);
    *size = r->body_size;
    body_forget(r);
}

const char *kl_http_header(const struct kl_http_request *r, const char *name)
{
    for (size_t i = 0; i < r->header_count; i++)
        if (strcasecmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return NULL;
}

void kl_http_request_put(struct kl_http_request *r, char *name, char *value)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->header_count; i++)
        if (strcasecmp(r->headers[i].name, name) != 0)
            r->headers[kept++] = r->headers[i];
    assert(kept < sizeof r->headers / sizeof r->headers[0]);
    r->headers[kept++] = (struct kl_http_header){ .name = name, .value = value };
    r->header_count = kept;
}

void kl_http_peer_text(const struct sockaddr *a, char out[KL_GUARD_PEER_MAX + 1])
{
    const void *at = a == NULL ? NULL
                   : a->sa_family == AF_INET ? (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr
                   : a->sa_family == AF_INET6
                   ? (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr : NULL;

    if (at == NULL || inet_ntop(a->sa_family, at, out, KL_GUARD_PEER_MAX) == NULL)
        out[0] = '\0';
}

struct kl_guard_ask kl_http_request_ask(const struct kl_http_request *r, const char *route, const char *peer)
{
    return (struct kl_guard_ask){
        .method = r->method, .route = route, .path = r->path.whole != NULL ? r->path.whole : "",
        .authorization = kl_http_header(r, "Authorization"),
        .tenant = kl_http_header(r, "X-Scope-OrgID"), .peer = peer };
}

const char *kl_http_param(const struct kl_http_request *r, const char *name, size_t i)
{
    const struct kl_http_param *p = kl_http_params_find(&r->params, name, i);

    return p != NULL ? p->value : NULL;
}

size_t kl_http_param_size(const struct kl_http_request *r, const char *name, size_t i)
{
    const struct kl_http_param *p = kl_http_params_find(&r->params, name, i);

    return p != NULL ? p->value_size : 0;
}

void kl_http_set(struct kl_http_request *r, const char *name, const char *value)
{
    for (size_t i = 0; i < r->extra.count; i++)
        if (strcasecmp(r->extra.at[i].name, name) == 0) {
            free(r->extra.at[i].value);
            r->extra.at[i].value = kl_strdup(value);
            return;
        }
    assert(r->extra.count < sizeof r->extra.at / sizeof r->extra.at[0]);
    r->extra.at[r->extra.count++] = (struct kl_http_header){ .name = kl_strdup(name),
                                                             .value = kl_strdup(value) };
}

bool kl_http_request_grow(struct kl_http_request *r, const char *bytes, size_t size)
{
    size_t room;

    if (size > r->body_room - r->body_size) {
        /* Twice as much each time, but no more than there will be. */
        room = r->body_room > 0 ? 2 * r->body_room : BODY_FIRST_ROOM;
        if (room < r->body_size + size)
            room = r->body_size + size;
        if (!r->chunked && room > r->body_announced)
            room = r->body_announced;
        if (!kl_budget_take(r->bodies, room - r->body_room))
            return false;
        r->body = kl_resize(r->body, room);
        r->body_room = room;
    }
    memcpy(r->body + r->body_size, bytes, size);
    r->body_size += size;
    return true;
}

void kl_http_request_drop(struct kl_http_request *r)
{
    free(r->body);
    body_forget(r);
}

static bool is_form(const struct kl_http_request *r)
{
    static const char form[] = "application/x-www-form-urlencoded";
    const char       *type = kl_http_header(r, "Content-Type");

    return strcmp(r->method, "POST") == 0 && type != NULL
           && strncasecmp(type, form, sizeof form - 1) == 0
           && strchr("; \t", type[sizeof form - 1]) != NULL;
}

enum kl_code kl_http_request_params(struct kl_http_request *r, struct kl_err *err)
{
    if (!r->route->is.raw_body && is_form(r) && r->body_size > 0) {
        if (!kl_http_request_charge(r, r->body_size + 1))
            return kl_fail(err, KL_EAGAIN, "too many requests at once");
        r->form = kl_new(r->body_size + 1);
        memcpy(r->form, r->body, r->body_size);
        if (kl_http_params_add(&r->params, r->form, r->body_size, err) != KL_OK)
            return err->code;
    }
    if (r->query != NULL)
        return kl_http_params_add(&r->params, r->query, strlen(r->query), err);
    return KL_OK;
}

bool kl_http_request_is_local(const struct kl_http_request *r, const struct sockaddr *a)
{
    return kl_http_header(r, "X-Forwarded-For") == NULL && kl_http_header(r, "Forwarded") == NULL &&
           kl_http_is_loopback(a);
}

bool kl_http_is_loopback(const struct sockaddr *a)
{
    const struct sockaddr_in6 *six = (const void *)a;

    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    if (a->sa_family != AF_INET6)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr)
           || (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr) && six->sin6_addr.s6_addr[12] == 127);
}

bool kl_http_request_charge(struct kl_http_request *r, size_t bytes)
{
    if (bytes <= KL_HTTP_HEAD_FREE)
        return true;
    if (!kl_budget_take(r->bodies, bytes))
        return false;
    r->head_charged += bytes;
    return true;
}

void kl_http_request_deinit(struct kl_http_request *r)
{
    kl_http_request_drop(r);
    for (size_t i = 0; i < r->extra.count; i++) {
        free(r->extra.at[i].name);
        free(r->extra.at[i].value);
    }
    kl_http_path_deinit(&r->path);
    free(r->params.at);
    free(r->form);
    free(r->headers_text);
    free(r->method);
    free(r->raw);
    kl_budget_give(r->bodies, r->head_charged);
}
