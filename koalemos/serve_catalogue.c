#include "koalemos/serve_catalogue.h"

#include "libblock/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_MAX = 64 * 1024, VALUE_MAX = 4096, ASKS_MAX = 16 };

struct serve_catalogue {
    struct kl_env      *env;
    struct kl_bus      *bus;
    struct kl_env_loop *loop;
    uint32_t            partitions;
    _Atomic unsigned    asks;
};
struct ask {
    struct serve_catalogue *s;
    struct kl_http_request *r;
    struct kl_env_task      begin;
    struct kl_bus_kv        kv;
    struct kl_bus_info      info;
    bool                    about_log;
    uint8_t                 value[VALUE_MAX];
};

static void say(struct kl_http_request *r, unsigned status, const char *words)
{
    kl_http_answer(r, status, "text/plain; charset=utf-8", kl_span_str(words));
}

static void end(struct ask *a, enum kl_code code, const struct kl_err *err, struct kl_buf *answer)
{
    if (code == KL_OK)
        kl_http_answer(a->r, 200, "application/octet-stream", kl_buf_span(answer));
    else
        say(a->r, code == KL_ENOENT ? 404 : code == KL_EEXIST ? 409 : 503, err->text);
    kl_buf_deinit(answer);
    atomic_fetch_sub(&a->s->asks, 1);
    free(a);
}

static void kv_done(struct kl_bus_kv *op)
{
    struct ask   *a = kl_container_of(op, struct ask, kv);
    struct kl_buf b = { 0 };

    kl_buf_addf(&b, "%" PRIu64 "\n", op->revision);
    if (op->code == KL_OK && op->kind == KL_BUS_KV_GET) {
        kl_buf_add(&b, op->got, op->got_size);
        free(op->got);
    }
    end(a, op->code, &op->err, &b);
}

static void info_done(struct kl_bus_info *op)
{
    struct kl_buf b = { 0 };

    kl_buf_addf(&b, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", op->incarnation, op->first_seq, op->last_seq);
    end(kl_container_of(op, struct ask, info), op->code, &op->err, &b);
}

static void begin(struct kl_env_task *task)
{
    struct ask *a = kl_container_of(task, struct ask, begin);

    if (a->about_log)
        a->s->bus->info(a->s->bus, &a->info);
    else
        a->s->bus->kv(a->s->bus, &a->kv);
}

/* ---- the form ---- */

static bool number(const char *text, uint64_t *v)
{
    char *rest;

    *v = strtoull(text, &rest, 10);
    return text[0] >= '0' && text[0] <= '9' && *rest == '\0';
}

static bool is_pointer(const char *key)
{
    return strncmp(key, "catalogue.", 10) == 0 && strspn(key + 10, "0123456789") == 4 && key[14] == '\0';
}

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool unhex(const char *text, uint8_t *out, size_t *size)
{
    size_t n = strlen(text);

    if (n % 2 != 0 || n / 2 > VALUE_MAX)
        return false;
    for (size_t i = 0; i < n; i += 2) {
        int high = nibble(text[i]), low = nibble(text[i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i / 2] = (uint8_t)(high << 4 | low);
    }
    *size = n / 2;
    return true;
}

/* NULL, or what is wrong. */
static const char *read_form(struct ask *a)
{
    const char *log = kl_http_param(a->r, "log", 0), *key = kl_http_param(a->r, "key", 0);
    const char *expect = kl_http_param(a->r, "expect", 0), *value = kl_http_param(a->r, "value", 0);
    uint64_t    partition;
    size_t      size;
    struct blk_pointer pointer;
    struct kl_err      unheard;

    if (log != NULL) {
        if (!number(log, &partition) || partition >= a->s->partitions)
            return "log is the number of a partition\n";
        a->about_log = true;
        a->info.partition = (uint32_t)partition;
        return NULL;
    }
    if (key == NULL || strlen(key) > KL_BUS_KEY_MAX || !(is_pointer(key) || (value == NULL && strncmp(key, "placement", 9) == 0)))
        return "key is catalogue.<pppp>, or one that begins with placement, to be read\n";
    strcpy(a->kv.key, key);
    a->kv.kind = value == NULL ? KL_BUS_KV_GET : KL_BUS_KV_PUT;
    if (value == NULL)
        return NULL;
    if (expect == NULL || !number(expect, &a->kv.expect) || !unhex(value, a->value, &size) ||
        blk_pointer_decode(kl_span(a->value, size), &pointer, &unheard) != KL_OK)
        return "expect is a revision, value the new pointer in hexadecimal digits\n";
    if (strtoul(key + 10, NULL, 10) >= a->s->partitions)
        return "there is no such partition\n";
    a->kv.value = kl_span(a->value, size);
    return NULL;
}

static void handle(void *ctx, struct kl_http_request *r)
{
    struct serve_catalogue *s = ctx;
    struct ask             *a;
    const char             *wrong;

    if (atomic_fetch_add(&s->asks, 1) >= ASKS_MAX) {
        atomic_fetch_sub(&s->asks, 1);
        say(r, 503, "too many questions about the catalogue at once\n");
        return;
    }
    a = kl_new(sizeof *a);
    a->s = s;
    a->r = r;
    wrong = read_form(a);
    if (wrong != NULL) {
        say(r, 400, wrong);
        atomic_fetch_sub(&s->asks, 1);
        free(a);
        return;
    }
    a->kv.loop = a->info.loop = s->loop;
    a->kv.done = kv_done;
    a->info.done = info_done;
    a->begin.run = begin;
    s->env->sched->post(s->loop, &a->begin);
}

struct serve_catalogue *serve_catalogue_new(struct kl_env *env, struct kl_bus *bus, uint32_t partitions,
                                            struct kl_http_server *http)
{
    struct serve_catalogue    *s = kl_new(sizeof *s);
    const struct kl_http_route route = { .method = "POST", .path = SERVE_CATALOGUE_PATH,
                                         .body_max_bytes = BODY_MAX, .handle = handle, .ctx = s };

    s->env = env;
    s->bus = bus;
    s->partitions = partitions;
    s->loop = env->sched->loop_new(env->sched, "catalogue-http", ASKS_MAX);
    kl_http_route_add(http, &route);
    return s;
}

void serve_catalogue_free(struct serve_catalogue *s)
{
    if (s == NULL)
        return;
    s->env->sched->loop_free(s->loop);
    free(s);
}
