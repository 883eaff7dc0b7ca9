/* A call: what came with it, its one message, and the answer. No I/O. */
#include "libkoal/http/grpc_priv.h"

#include "libkoal/base/base64.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BODY_FIRST = 4096 };

struct kl_grpc_call *kl_grpc_call_new(struct kl_grpc_conn *conn, int32_t stream, int64_t now_ms)
{
    struct kl_grpc_call *c = kl_new(sizeof *c);

    c->server = conn->server;
    c->conn = conn;
    c->stream = stream;
    c->number = conn->number;
    c->begun_ms = now_ms;
    c->next = conn->calls;
    c->at = &conn->calls;
    if (c->next != NULL)
        c->next->at = &c->next;
    conn->calls = c;
    conn->call_count++;
    return c;
}

static void drop_body(struct kl_grpc_call *c)
{
    kl_budget_give(&c->server->bodies, c->body_room);
    free(c->body);
    c->body = NULL;
    c->body_size = c->body_room = 0;
}

void kl_grpc_call_free(struct kl_grpc_call *c)
{
    drop_body(c);
    kl_budget_give(&c->server->bodies, c->metadata_size);
    free(c->metadata);
    free(c->words);
    free(c->details);
    kl_buf_deinit(&c->out);
    free(c);
}

void kl_grpc_call_refuse(struct kl_grpc_call *c, int status, const char *words)
{
    if (c->refused != 0)
        return;
    c->refused = status;
    c->refused_words = words;
    drop_body(c);
}

static bool is(struct kl_span s, const char *text) { return kl_span_eq(s, kl_span_str(text)); }

static bool begins(struct kl_span s, const char *text)
{
    return s.size >= strlen(text) && memcmp(s.at, text, strlen(text)) == 0;
}

bool kl_grpc_call_header(struct kl_grpc_call *c, struct kl_span name, struct kl_span value)
{
    char *into;

    c->header_bytes += name.size + value.size + 32;    /* as HTTP/2 counts them */
    if (c->header_bytes > KL_GRPC_METADATA_MAX || ++c->header_count > KL_GRPC_HEADERS_MAX)
        return false;
    if (is(name, ":method")) {
        c->post = is(value, "POST");
    } else if (is(name, ":path")) {
        if (value.size < sizeof c->path && memchr(value.at, '\0', value.size) == NULL)
            memcpy(c->path, value.at, value.size);     /* zeroed before; a longer one is no route's */
    } else if (is(name, "content-type")) {
        c->grpc_type = is(value, "application/grpc") || begins(value, "application/grpc+") ||
                       begins(value, "application/grpc;");
    }
    if (name.size == 0 || *(const char *)name.at == ':' || memchr(value.at, '\0', value.size) != NULL)
        return true;
    if (!kl_budget_take(&c->server->bodies, name.size + value.size + 2))
        return false;
    c->metadata = kl_resize(c->metadata, c->metadata_size + name.size + value.size + 2);
    into = c->metadata + c->metadata_size;
    memcpy(into, name.at, name.size);
    into[name.size] = '\0';
    memcpy(into + name.size + 1, value.at, value.size);
    into[name.size + 1 + value.size] = '\0';
    c->metadata_size += name.size + value.size + 2;
    return true;
}

const char *kl_grpc_metadata(const struct kl_grpc_call *c, const char *name)
{
    for (size_t at = 0; at < c->metadata_size; ) {
        const char *n = c->metadata + at, *value = n + strlen(n) + 1;
        if (strcmp(n, name) == 0)
            return value;
        at = (size_t)(value - c->metadata) + strlen(value) + 1;
    }
    return NULL;
}

unsigned kl_grpc_connection(const struct kl_grpc_call *c) { return c->number; }

/* The tenant that the guard says comes first of all metadata: it is the one that is found. */
static bool put_tenant(struct kl_grpc_call *c, const char *tenant)
{
    static const char name[] = "x-scope-orgid";
    size_t size = sizeof name + strlen(tenant) + 1;
    char  *all;

    if (!kl_budget_take(&c->server->bodies, size))
        return false;
    all = kl_new(size + c->metadata_size);
    memcpy(all, name, sizeof name);
    strcpy(all + sizeof name, tenant);
    if (c->metadata_size > 0)
        memcpy(all + size, c->metadata, c->metadata_size);
    free(c->metadata);
    c->metadata = all;
    c->metadata_size += size;
    return true;
}

static int status_of(unsigned http)
{
    return http == 401 ? KL_GRPC_UNAUTHENTICATED : http == 403 ? KL_GRPC_DENIED
         : http == 429 ? KL_GRPC_EXHAUSTED : KL_GRPC_UNAVAILABLE;
}

static void ask_guard(struct kl_grpc_call *c)
{
    const struct kl_guard  *g = c->server->options.guard;
    struct kl_guard_verdict v = { 0 };
    struct kl_guard_ask     ask = { .method = "POST", .route = c->route != NULL ? c->route->path : NULL,
                                    .path = c->path, .authorization = kl_grpc_metadata(c, "authorization"),
                                    .tenant = kl_grpc_metadata(c, "x-scope-orgid"), .peer = c->conn->peer,
                                    .uncertified = c->conn->tls != NULL && !c->conn->certified &&
                                                   kl_tls_asks(c->server->options.tls) };

    g->judge(g->ctx, &ask, &v);
    if (v.status != 0) {
        strcpy(c->guard_words, v.words);
        kl_grpc_call_refuse(c, status_of(v.status), c->guard_words);
    } else if (v.tenant[0] != '\0' && !put_tenant(c, v.tenant)) {
        kl_grpc_call_refuse(c, KL_GRPC_EXHAUSTED, "too many messages are under way");
    }
}

void kl_grpc_call_begun(struct kl_grpc_call *c)
{
    const char *coding = kl_grpc_metadata(c, "grpc-encoding");

    for (size_t i = 0; i < c->server->route_count; i++)
        if (strcmp(c->server->routes[i].path, c->path) == 0)
            c->route = &c->server->routes[i];
    if (!c->post || !c->grpc_type)
        return;                                        /* no gRPC at all: answered in HTTP's terms */
    if (c->server->options.guard != NULL)
        ask_guard(c);
    if (c->route == NULL)
        kl_grpc_call_refuse(c, KL_GRPC_UNIMPLEMENTED, "there is no such method");
    else if (coding != NULL && strcmp(coding, "gzip") != 0 && strcmp(coding, "identity") != 0)
        kl_grpc_call_refuse(c, KL_GRPC_UNIMPLEMENTED, "grpc-encoding should be gzip or identity");
}

/* Memory grows with what has come, not with what was announced. */
static bool make_room(struct kl_grpc_call *c, size_t size)
{
    size_t room = c->body_room < BODY_FIRST ? BODY_FIRST : c->body_room;

    if (size <= c->body_room)
        return true;
    while (room < size)
        room *= 2;
    if (room > c->body_expected)
        room = c->body_expected;
    if (!kl_budget_take(&c->server->bodies, room - c->body_room))
        return false;
    c->body = kl_resize(c->body, room);
    c->body_room = room;
    return true;
}

static void read_prefix(struct kl_grpc_call *c)
{
    const uint8_t *p = c->prefix;

    c->packed = p[0] == 1;
    c->body_expected = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    if (p[0] > 1)
        kl_grpc_call_refuse(c, KL_GRPC_INTERNAL, "a message whose first byte is neither 0 nor 1");
    else if (c->packed && kl_grpc_metadata(c, "grpc-encoding") == NULL)
        kl_grpc_call_refuse(c, KL_GRPC_INTERNAL, "a packed message without grpc-encoding");
    else if (c->body_expected > c->route->message_max_bytes)
        kl_grpc_call_refuse(c, KL_GRPC_EXHAUSTED, "the message is larger than limits.body_bytes_max");
}

void kl_grpc_call_data(struct kl_grpc_call *c, const uint8_t *bytes, size_t size)
{
    while (size > 0 && c->prefix_have < KL_GRPC_PREFIX && c->refused == 0 && c->route != NULL) {
        c->prefix[c->prefix_have++] = *bytes++;
        size--;
        if (c->prefix_have == KL_GRPC_PREFIX)
            read_prefix(c);
    }
    if (size == 0 || c->refused != 0 || c->route == NULL)
        return;
    if (size > c->body_expected - c->body_size) {
        kl_grpc_call_refuse(c, KL_GRPC_UNIMPLEMENTED, "more than one message");
    } else if (!make_room(c, c->body_size + size)) {
        kl_grpc_call_refuse(c, KL_GRPC_EXHAUSTED, "too many messages are under way");
    } else {
        memcpy(c->body + c->body_size, bytes, size);
        c->body_size += size;
    }
}

void kl_grpc_call_ended(struct kl_grpc_call *c)
{
    if (c->prefix_have < KL_GRPC_PREFIX || c->body_size < c->body_expected)
        kl_grpc_call_refuse(c, KL_GRPC_INTERNAL, "a call without a whole message");
}

bool kl_grpc_is_packed(const struct kl_grpc_call *c) { return c->packed; }

void kl_grpc_message_take(struct kl_grpc_call *c, char **bytes, size_t *size, const char **coding)
{
    *bytes = c->body != NULL ? c->body : kl_new(1);
    *size = c->body_size;
    *coding = c->packed ? kl_grpc_metadata(c, "grpc-encoding") : "identity";
    kl_budget_give(&c->server->bodies, c->body_room);  /* from here on, the caller's */
    c->body = NULL;
    c->body_size = c->body_room = 0;
}

/* ---- the answer ---- */

size_t kl_grpc_escape(const char *words, char *out, size_t most)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;

    for (size_t i = 0; words[i] != '\0' && i < most; i++) {
        uint8_t b = (uint8_t)words[i];
        if (b >= 0x20 && b < 0x7f && b != '%') {
            out[n++] = (char)b;
        } else {
            out[n++] = '%';
            out[n++] = digits[b >> 4];
            out[n++] = digits[b & 15];
        }
    }
    return n;
}

/* As gRPC's binary headers are written. */
static char *unpadded(struct kl_span s)
{
    struct kl_buf b = { 0 };
    char         *text;

    kl_base64(&b, s, false);
    kl_buf_add8(&b, 0);
    text = kl_strdup((const char *)b.at);
    kl_buf_deinit(&b);
    return text;
}

void kl_grpc_call_fill(struct kl_grpc_call *c, int status, const char *words, struct kl_span message,
                       struct kl_span details)
{
    uint8_t prefix[KL_GRPC_PREFIX] = { 0, (uint8_t)(message.size >> 24), (uint8_t)(message.size >> 16),
                                       (uint8_t)(message.size >> 8), (uint8_t)message.size };

    c->status = status;
    if (status != KL_GRPC_OK) {
        c->words = kl_new(3 * KL_GRPC_WORDS_MAX + 1);
        (void)kl_grpc_escape(words, c->words, KL_GRPC_WORDS_MAX);      /* ended by a zero */
    }
    if (details.size > 0 && details.size <= KL_GRPC_DETAILS_MAX)
        c->details = unpadded(details);
    if (status == KL_GRPC_OK) {
        kl_buf_add(&c->out, prefix, sizeof prefix);
        kl_buf_add(&c->out, message.at, message.size);
    }
}
