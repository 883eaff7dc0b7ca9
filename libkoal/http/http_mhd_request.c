/*
 * A request as it comes: its line and headers are judged before any of its body is read; then its
 * handler is called.
 */
#include "libkoal/http/http_mhd_priv.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "libkoal/http/tls_priv.h"

enum { PATH_MAX_BYTES = 8192 };

/* The first word of a request: its raw target, which the library is about to decode. */
void *kl_http_on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct kl_http_server  *s = cls;
    struct kl_http_request *r = kl_new(sizeof *r);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    r->server = s;
    r->connection = connection;
    r->route = &s->routes.none;
    r->wild = "";
    r->number = ((const struct connection *)info->socket_context)->number;
    r->bodies = &s->bodies;
    r->starved = !kl_http_request_charge(r, strlen(target) + 1);
    r->raw = kl_strdup(r->starved ? "/" : target);
    /* The library would parse the query, too, into its own memory, and end the connection where
     * that is short: it is the connection's buffer, not yet looked at, so the query may be cut. */
    char *query = strchr((char *)(uintptr_t)target, '?');
    if (query != NULL)
        query[1] = '\0';
    atomic_store(&r->refs, 1);
    clock_gettime(CLOCK_MONOTONIC, &r->began);
    atomic_fetch_add(&s->refs, 1);
    atomic_fetch_add(&s->live, 1);
    return r;
}

void kl_http_on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                          enum MHD_RequestTerminationCode why)
{
    struct kl_http_request *r = *con_cls;

    (void)cls;
    (void)connection;
    (void)why;
    if (r == NULL)
        return;
    *con_cls = NULL;
    atomic_fetch_sub(&r->server->live, 1);
    kl_http_request_unref(r);
}

/* Whether a client that is to show a certificate has not. Asked once a connection. */
static bool is_uncertified(struct kl_http_request *r)
{
    struct kl_tls     *tls = r->server->tls;
    const union MHD_ConnectionInfo *info;
    struct connection *c;

    if (tls == NULL || !kl_tls_asks(tls))
        return false;
    info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    c = info->socket_context;
    if (!c->looked) {
        info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        c->certified = info != NULL && kl_tls_certified_raw(tls, info->tls_session);
        c->looked = true;
    }
    return !c->certified;
}

/* A token of RFC 9110. The library takes all up to the colon for a name. */
static bool is_name(const char *name)
{
    return name[0] != '\0' && name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                                "!#$%&'*+-.^_`|~")] == '\0';
}

struct header_sum { size_t count, bytes, lengths, codings, nameless; };
static enum MHD_Result sum_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct header_sum *sum = cls;

    (void)kind;
    sum->count++;
    sum->bytes += strlen(name) + (value != NULL ? strlen(value) : 0) + 2;
    sum->lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    sum->codings += strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    sum->nameless += !is_name(name);
    return MHD_YES;
}

static enum MHD_Result copy_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    struct kl_http_request *r = cls;
    struct kl_http_header  *h = &r->headers[r->header_count++];

    (void)kind;
    /* headers_text was made to hold them all: the end of one is the place of the next. */
    h->name = r->header_count == 1 ? r->headers_text : h[-1].value + strlen(h[-1].value) + 1;
    strcpy(h->name, name);
    h->value = h->name + strlen(name) + 1;
    strcpy(h->value, value != NULL ? value : "");
    return MHD_YES;
}

/* Whether the guard lets it through; else it is refused, and *done what is to be returned. */
static bool pass_guard(struct kl_http_request *r, const struct kl_http_entry *route, bool much,
                       enum MHD_Result *done)
{
    const struct kl_guard *g = r->server->options.guard;
    struct kl_guard_ask    ask;

    if (g == NULL)
        return true;
    ask = kl_http_request_ask(r, route != NULL ? route->path : NULL, r->peer);
    ask.uncertified = is_uncertified(r);
    g->judge(g->ctx, &ask, &r->verdict);
    if (r->verdict.status != 0) {
        *done = kl_http_refuse(r, r->verdict.status, much, r->verdict.words);
        return false;
    }
    if (r->verdict.tenant[0] != '\0')
        kl_http_request_put(r, (char *)(uintptr_t)"X-Scope-OrgID", r->verdict.tenant);
    r->guarded = route != NULL;
    return true;
}

/* Line and headers are here, the body is not. */
static enum MHD_Result begin(struct kl_http_request *r, const char *method)
{
    struct MHD_Connection *c = r->connection;
    struct header_sum      sum = { 0 };
    const union MHD_ConnectionInfo *info;
    struct kl_err          err;
    const char            *length, *coding;
    size_t                 path_size = strcspn(r->raw, "?");
    char                   allow[64];
    bool                   much;
    enum MHD_Result        passed;
    const struct kl_http_entry *route;

    r->called = true;
    r->method = kl_strdup(method);
    MHD_get_connection_values(c, MHD_HEADER_KIND, sum_header, &sum);
    length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    coding = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    r->chunked = coding != NULL;
    r->body_announced = length != NULL ? strtoull(length, NULL, 10) : 0;
    if (sum.lengths + sum.codings > 1 || (coding != NULL && strcasecmp(coding, "chunked") != 0))
        return kl_http_refuse(r, MHD_HTTP_BAD_REQUEST, true, "it is unclear where the body ends");
    if (sum.nameless > 0)
        return kl_http_refuse(r, MHD_HTTP_BAD_REQUEST, true, "a header's name has blanks, or others than may be in one");
    /* A client that waits to be told to go on is told at once. */
    much = r->body_announced > KL_HTTP_DISCARD_MAX
           || MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) != NULL;
    if (sum.count > KL_HTTP_HEADERS_MAX)
        return kl_http_refuse(r, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, much, "too many headers");
    if (path_size > PATH_MAX_BYTES)
        return kl_http_refuse(r, MHD_HTTP_URI_TOO_LONG, much, "the path is too long");
    if (r->starved || !kl_http_request_charge(r, sum.bytes + 2 * path_size))
        return kl_http_refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, much, "too many requests at once");
    r->headers_text = kl_new(sum.bytes + 1);
    MHD_get_connection_values(c, MHD_HEADER_KIND, copy_header, r);
    info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    r->local = kl_http_request_is_local(r, info->client_addr);
    kl_http_peer_text(info->client_addr, r->peer);
    r->coding = kl_http_coding_of(kl_http_header(r, MHD_HTTP_HEADER_ACCEPT_ENCODING));
    kl_http_teller_meet(&r->server->teller, r);

    if (kl_http_path_init(&r->path, r->raw, path_size, &err) != KL_OK && err.code == KL_EINVAL)
        return kl_http_refuse(r, MHD_HTTP_BAD_REQUEST, much, err.text);
    route = kl_http_routes_find(&r->server->routes, &r->path, r->method, &r->wild, allow, sizeof allow);
    if (route == NULL && strcmp(r->method, MHD_HTTP_METHOD_OPTIONS) == 0 && allow[0] != '\0') {
        char again[sizeof allow];

        route = kl_http_routes_find(&r->server->routes, &r->path,
                                    strstr(allow, "GET") != NULL ? "GET" : "POST", &r->wild, again,
                                    sizeof again);
        if (route != NULL && route->is.cors) {
            enum MHD_Result done = kl_http_refuse(r, MHD_HTTP_NO_CONTENT, false, NULL);

            kl_http_add_cors(r->response);
            return done;
        }
        route = NULL;
    }
    if (!pass_guard(r, route, much, &passed))
        return passed;
    if (route == NULL) {
        enum MHD_Result done = allow[0] != '\0'
            ? kl_http_refuse(r, MHD_HTTP_METHOD_NOT_ALLOWED, false, "method not allowed")
            : kl_http_refuse(r, MHD_HTTP_NOT_FOUND, false, "no such path");

        if (allow[0] != '\0')
            MHD_add_response_header(r->response, MHD_HTTP_HEADER_ALLOW, allow);
        if (!much)
            return done;
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_CONNECTION, "close");
        return kl_http_queue(r);
    }
    r->route = route;
    if (r->raw[path_size] == '?')
        r->query = r->raw + path_size + 1;
    r->body_max = r->route->is.body_max == NULL ? r->route->is.body_max_bytes : atomic_load(r->route->is.body_max);
    if (r->body_announced > r->body_max) {
        char words[100];
        snprintf(words, sizeof words, "the body has %zu bytes; at most %zu are taken",
                 r->body_announced, r->body_max);
        return kl_http_refuse(r, MHD_HTTP_CONTENT_TOO_LARGE, much, words);
    }
    if (r->body_announced > 0
        && atomic_load(&r->server->bodies.used_bytes) + r->body_announced
               > r->server->bodies.cap_bytes)
        return kl_http_refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, much, "too many requests at once");
    return MHD_YES;
}

/* Some of the body. MHD_NO closes the connection. */
static enum MHD_Result collect(struct kl_http_request *r, const char *bytes, size_t size)
{
    size_t most = r->body_max;

    if (r->discard) {
        r->discarded += size;
        return r->discarded > KL_HTTP_DISCARD_MAX && r->chunked ? MHD_NO : MHD_YES;
    }
    if (size > most - r->body_size) {                  /* chunked: else refused by its length */
        kl_http_request_drop(r);
        return kl_http_refuse(r, MHD_HTTP_CONTENT_TOO_LARGE, false, "the body is larger than is taken");
    }
    if (!kl_http_request_grow(r, bytes, size)) {
        kl_http_request_drop(r);
        return kl_http_refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, false, "too many requests at once");
    }
    return MHD_YES;
}

/* All of the request is here: calls the handler, and the connection waits for its answer. */
static enum MHD_Result handle(struct kl_http_request *r)
{
    struct kl_http_server *s = r->server;
    struct kl_err          err;
    bool                   suspended = false;

    if (kl_http_request_params(r, &err) != KL_OK) {
        kl_http_refuse(r, err.code == KL_EAGAIN ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_BAD_REQUEST,
                       false, err.text);
        return kl_http_queue(r);
    }
    atomic_fetch_add(&r->refs, 1);                     /* the handler's, until it answers */
    if (s->around.before != NULL)
        s->around.before(s->around.ctx);
    r->route->is.handle(r->route->is.ctx, r);
    if (s->around.before != NULL)
        s->around.after(s->around.ctx);

    pthread_mutex_lock(&s->lock);
    if (!r->answered && s->stopping) {
        kl_http_abandon(r);
    } else if (!r->answered) {
        MHD_suspend_connection(r->connection);
        r->is_suspended = suspended = true;
        r->next = s->suspended;
        r->at = &s->suspended;
        if (r->next != NULL)
            r->next->at = &r->next;
        s->suspended = r;
    }
    pthread_mutex_unlock(&s->lock);
    return suspended ? MHD_YES : kl_http_queue(r);
}

/* The library's steps: headers; then runs of the body; then, with none left, the end. */
enum MHD_Result kl_http_on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                   const char *method, const char *version, const char *upload_data,
                                   size_t *upload_data_size, void **con_cls)
{
    struct kl_http_request *r = *con_cls;

    (void)cls;
    (void)connection;
    (void)url;
    (void)version;
    if (!r->called)
        return begin(r, method);
    if (*upload_data_size > 0) {
        size_t size = *upload_data_size;
        *upload_data_size = 0;
        return collect(r, upload_data, size);
    }
    return r->response != NULL ? kl_http_queue(r) : handle(r);
}
