/*
 * The version in a server's first line, INFO {"version":"2.9.10",...}, and the ack of a publish, as JetStream's
 * API documents it:
 *
 *   {"stream":"S","seq":7}   {"stream":"S","seq":7,"duplicate":true}
 *   {"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},
 *    "stream":"S","seq":0}
 *
 * Read by a scanner of just that much JSON, that refuses what it does not understand: one answer
 * a record, so no tree is built.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <string.h>

enum { DEPTH_MAX = 8 };
struct json { const char *at, *end; bool bad; };

static char peek(struct json *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r'))
        j->at++;
    return j->at < j->end ? *j->at : '\0';
}

static bool eat(struct json *j, char c)
{
    if (peek(j) != c)
        return false;
    j->at++;
    return true;
}

/* The bytes between the quotes, escapes as they are. */
static struct kl_span text(struct json *j)
{
    const char *from;

    if (!eat(j, '"')) {
        j->bad = true;
        return kl_span("", 0);
    }
    for (from = j->at; j->at < j->end && *j->at != '"'; j->at++)
        if (*j->at == '\\' && j->at + 1 < j->end)
            j->at++;
    if (j->at == j->end) {
        j->bad = true;
        return kl_span("", 0);
    }
    return kl_span(from, (size_t)(j->at++ - from));
}

static uint64_t number(struct json *j)
{
    uint64_t v = 0;

    if (peek(j) < '0' || *j->at > '9')
        j->bad = true;
    for (; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++) {
        if (v > (UINT64_MAX - 9) / 10)
            j->bad = true;
        v = v * 10 + (uint64_t)(*j->at - '0');
    }
    return v;
}

static bool word(struct json *j, const char *w)
{
    size_t n = strlen(w);

    peek(j);
    if ((size_t)(j->end - j->at) < n || memcmp(j->at, w, n) != 0)
        return false;
    j->at += n;
    return true;
}

static void skip(struct json *j, int depth)
{
    char c = peek(j);

    if (depth > DEPTH_MAX) {
        j->bad = true;
    } else if (c == '"') {
        text(j);
    } else if (c == '{' || c == '[') {
        j->at++;
        while (!j->bad && peek(j) != (c == '{' ? '}' : ']')) {
            if (c == '{') {
                text(j);
                j->bad |= !eat(j, ':');
            }
            if (!j->bad)
                skip(j, depth + 1);
            if (!eat(j, ','))
                break;
        }
        j->bad |= !eat(j, c == '{' ? '}' : ']');
    } else if (!word(j, "true") && !word(j, "false") && !word(j, "null")) {
        const char *from = j->at;

        while (j->at < j->end && strchr("+-.0123456789eE", *j->at) != NULL && *j->at != '\0')
            j->at++;
        j->bad |= j->at == from;
    }
}

static void error(struct json *j, struct kl_busn_reply *r)
{
    j->bad |= !eat(j, '{');
    while (!j->bad && peek(j) != '}') {
        struct kl_span key = text(j);

        j->bad |= !eat(j, ':');
        if (j->bad)
            return;
        if (kl_span_eq(key, kl_span_str("err_code"))) {
            r->err_code = (int64_t)number(j);
        } else if (kl_span_eq(key, kl_span_str("description"))) {
            struct kl_span s = text(j);
            size_t n = s.size < KL_BUSN_TEXT_MAX ? s.size : KL_BUSN_TEXT_MAX;

            memcpy(r->text, s.at, n);
            r->text[n] = '\0';
        } else {
            skip(j, 0);
        }
        if (!eat(j, ','))
            break;
    }
    j->bad |= !eat(j, '}');
    r->ok = false;
}

bool kl_busn_ack_parse(const char *at, size_t size, struct kl_busn_reply *r)
{
    struct json j = { .at = at, .end = at + size };

    r->ok = true;
    r->seq = 0;
    j.bad |= !eat(&j, '{');
    while (!j.bad && peek(&j) != '}') {
        struct kl_span key = text(&j);

        j.bad |= !eat(&j, ':');
        if (j.bad)
            break;
        if (kl_span_eq(key, kl_span_str("seq")))
            r->seq = number(&j);
        else if (kl_span_eq(key, kl_span_str("duplicate")) && word(&j, "true"))
            r->duplicate = true;
        else if (kl_span_eq(key, kl_span_str("error")))
            error(&j, r);
        else
            skip(&j, 0);
        if (!eat(&j, ','))
            break;
    }
    j.bad |= !eat(&j, '}');
    return !j.bad && (!r->ok || r->seq > 0);
}

static bool take_version(struct kl_span s, char version[KL_BUS_VERSION_MAX + 1])
{
    static const char good[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+-";

    if (s.size == 0 || s.size > KL_BUS_VERSION_MAX)
        return false;
    memcpy(version, s.at, s.size);
    version[s.size] = '\0';
    return strspn(version, good) == s.size;
}

bool kl_busn_info_version(const char *at, size_t size, char version[KL_BUS_VERSION_MAX + 1])
{
    struct json j = { .at = at, .end = at + size };
    bool        told = false;

    j.bad |= !word(&j, "INFO ") || !eat(&j, '{');
    while (!j.bad && peek(&j) != '}') {
        struct kl_span key = text(&j);

        j.bad |= !eat(&j, ':');
        if (j.bad)
            break;
        if (kl_span_eq(key, kl_span_str("version")))
            told = take_version(text(&j), version);
        else
            skip(&j, 0);
        if (!eat(&j, ','))
            break;
    }
    j.bad |= !eat(&j, '}');
    return told && !j.bad;
}
