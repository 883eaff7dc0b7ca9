#include "libkoal/auth/auth.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libkoal/auth/endpoints.h"

/* What a key may still ask, in thousandths of a request; filled again as time goes. */
struct bucket { char id[KL_GUARD_KEY_MAX + 1]; int64_t milli, at_ms; };

struct kl_auth {
    struct kl_auth_options options;
    struct kl_guard  guard;
    struct kl_audit *audit;
    struct kl_metric *refused[4], unseen;              /* 401, 403, 429, 503 */
    char            *file;

    pthread_mutex_t  lock;                             /* of what follows */
    struct kl_auth_keys keys;
    struct bucket   *buckets;                          /* as many as keys, in their order */
    struct timespec  changed;                          /* of the file */
    off_t            size;
    ino_t            inode;
};

/* ---- the file ---- */

static int64_t full(const struct kl_auth *a, const struct kl_auth_key *k)
{
    return 1000 * (int64_t)(k->rate > 0 ? k->rate : a->options.rate);
}

/* Keys that stay keep what they have used. */
static struct bucket *buckets_for(const struct kl_auth *a, const struct kl_auth_keys *keys)
{
    struct bucket *b = kl_new(keys->count * sizeof *b + 1);

    for (size_t i = 0; i < keys->count; i++) {
        const struct kl_auth_key *old = kl_auth_keys_find(&a->keys, keys->at[i].id, strlen(keys->at[i].id));

        if (old != NULL)
            b[i] = a->buckets[old - a->keys.at];
        else
            b[i] = (struct bucket){ .milli = full(a, &keys->at[i]), .at_ms = a->options.now_ms(a->options.ctx) };
    }
    return b;
}

static bool is_same(struct kl_auth *a, const struct stat *s)
{
    bool same;

    pthread_mutex_lock(&a->lock);
    same = s->st_size == a->size && s->st_ino == a->inode && s->st_mtim.tv_sec == a->changed.tv_sec &&
           s->st_mtim.tv_nsec == a->changed.tv_nsec;
    pthread_mutex_unlock(&a->lock);
    return same;
}

enum kl_code kl_auth_reload(struct kl_auth *a, bool *changed, struct kl_err *err)
{
    struct kl_auth_keys keys, old;
    struct bucket      *buckets;
    struct stat         s;
    char               *bytes = NULL;
    size_t              size = 0;

    if (changed != NULL)
        *changed = false;
    if (a->file == NULL)
        return KL_OK;
    if (stat(a->file, &s) == 0 && is_same(a, &s))
        return KL_OK;
    if (kl_auth_file_read(a->file, &bytes, &size, &s, err) != KL_OK)
        return kl_within(err, "auth.keys.file");
    kl_auth_keys_parse(kl_span(bytes, size), &keys, err);
    free(bytes);
    if (err->code != KL_OK)
        return kl_within(err, "auth.keys.file %s", a->file);
    pthread_mutex_lock(&a->lock);
    old = a->keys;
    buckets = buckets_for(a, &keys);
    free(a->buckets);
    a->buckets = buckets;
    a->keys = keys;
    a->size = s.st_size;
    a->inode = s.st_ino;
    a->changed = s.st_mtim;
    pthread_mutex_unlock(&a->lock);
    kl_auth_keys_free(&old);
    if (changed != NULL)
        *changed = true;
    return KL_OK;
}

/* ---- judging ---- */

__attribute__((format(printf, 4, 5)))
static void refuse(struct kl_auth *a, struct kl_guard_verdict *v, unsigned status, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(v->words, sizeof v->words, fmt, ap);
    va_end(ap);
    v->status = status;
    if (status == 429)
        v->retry_after_s = 1;
    kl_count(a->refused[status == 401 ? 0 : status == 403 ? 1 : status == 429 ? 2 : 3], 1);
}

/* A copy of what is to be known of a key, so that the table may be replaced meanwhile. */
struct known { unsigned roles; bool everywhere, may, spent; char id[KL_GUARD_KEY_MAX + 1], first[KL_GUARD_TENANT_MAX + 1]; };

static bool take(struct kl_auth *a, const struct kl_auth_key *k)
{
    struct bucket *b = &a->buckets[k - a->keys.at];
    int64_t        most = full(a, k), now = a->options.now_ms(a->options.ctx), more;

    if (most == 0)
        return true;
    more = (now - b->at_ms) < 1000 ? (now - b->at_ms) * (most / 1000) : most;
    b->milli = more < most - b->milli ? b->milli + more : most;
    b->at_ms = now;
    if (b->milli < 1000)
        return false;
    b->milli -= 1000;
    return true;
}

/* Whether the key is one; the same time and the same words for a wrong id and a wrong secret. */
static bool look_up(struct kl_auth *a, const struct kl_guard_ask *ask, struct known *out)
{
    static const uint8_t      none[KL_SHA256];
    char                      room[KL_AUTH_HEADER_MAX];
    uint8_t                   digest[KL_SHA256];
    struct kl_auth_shown      s;
    const struct kl_auth_key *k;
    bool                      right = kl_auth_shown(ask->authorization, room, &s);

    if (right) {
        kl_sha256(kl_span(s.secret, s.secret_size), digest);
        pthread_mutex_lock(&a->lock);
        k = kl_auth_keys_find(&a->keys, s.id, s.id_size);
        right = kl_equal(digest, k != NULL ? k->digest : none, KL_SHA256) && k != NULL;
        if (right) {
            out->roles = k->roles;
            out->everywhere = k->everywhere;
            out->may = ask->tenant == NULL || ask->tenant[0] == '\0' || kl_auth_key_has(k, ask->tenant);
            out->spent = !take(a, k);
            strcpy(out->id, k->id);
            strcpy(out->first, k->everywhere ? "anonymous" : k->tenants[0]);
        }
        pthread_mutex_unlock(&a->lock);
    }
    kl_wipe(room, sizeof room);
    return right;
}

static void judge_key(struct kl_auth *a, const struct kl_guard_ask *ask, const struct kl_auth_endpoint *e,
                      struct kl_guard_verdict *v)
{
    struct known  k;
    struct kl_buf role = { 0 };

    if (ask->authorization == NULL || ask->authorization[0] == '\0') {
        refuse(a, v, 401, "a key is needed: Authorization: Bearer ID.SECRET, or Basic with that as password");
        return;
    }
    if (!look_up(a, ask, &k)) {
        refuse(a, v, 401, "the key is not known here");
        return;
    }
    strcpy(v->key, k.id);
    if (k.spent) {
        refuse(a, v, 429, "key %s asks more often than it may; its rate is in the file of keys", k.id);
    } else if (ask->route == NULL) {
        ;                                              /* 404 or 405 is for the server to say */
    } else if (e == NULL) {
        refuse(a, v, 403, "no role may ask for this");
    } else if ((e->role & k.roles) == 0) {
        kl_auth_roles_print(e->role, &role);
        refuse(a, v, 403, "key %s has no role %.*s%s", k.id, (int)role.size, role.at,
               (e->role & (e->role - 1)) != 0 ? ": one of these is needed" : "");
        kl_buf_deinit(&role);
    } else if (e->cell && !k.everywhere) {
        refuse(a, v, 403, "key %s is for some tenants; this is for a key of all of them", k.id);
    } else if (!k.may) {
        refuse(a, v, 403, "key %s is not for the tenant that X-Scope-OrgID names", k.id);
    }
    if (v->status == 0 && (ask->tenant == NULL || ask->tenant[0] == '\0'))
        strcpy(v->tenant, k.first);
}

static void judge(void *ctx, const struct kl_guard_ask *ask, struct kl_guard_verdict *v)
{
    struct kl_auth *a = ctx;
    const struct kl_auth_endpoint *e = ask->route != NULL ? kl_auth_endpoint_of(ask->method, ask->route) : NULL;
    struct kl_guard_ask order = *ask;
    struct kl_err   err;

    if (ask->uncertified && !(e != NULL && e->role == 0))
        refuse(a, v, 401, "a client certificate is needed, of the CA that tls.client_ca.file names");
    else if (a->file != NULL && !(e != NULL && e->role == 0))
        judge_key(a, ask, e, v);
    if (v->tenant[0] != '\0' && e != NULL && !e->cell)
        order.tenant = v->tenant;                      /* whose data it will be about */
    if (v->status == 0 && a->audit != NULL && e != NULL && e->role == KL_ROLE_ADMIN &&
        kl_audit_order(a->audit, &order, v->key, &err) != KL_OK)
        refuse(a, v, 503, "the order cannot be written into the audit log, and is not carried out");
    else if (v->status != 0 && a->audit != NULL)
        kl_audit_refused(a->audit, ask, v);
    if (v->status == 0 && a->audit == NULL && e != NULL && e->role == KL_ROLE_ADMIN)
        kl_logf(a->options.log, KL_INFO, "order: %s %s, key \"%s\", from %s", ask->method, ask->route, v->key, ask->peer);
}

static void done(void *ctx, const struct kl_guard_ask *ask, const char *key, unsigned status)
{
    struct kl_auth *a = ctx;
    const struct kl_auth_endpoint *e = kl_auth_endpoint_of(ask->method, ask->route);

    if (a->audit != NULL && e != NULL && e->role == KL_ROLE_ADMIN)
        kl_audit_done(a->audit, ask, key, status);
}

/* ---- coming and going ---- */

enum kl_code kl_auth_open(const struct kl_auth_options *o, struct kl_auth **auth, struct kl_err *err)
{
    static const char *const codes[] = { "code=\"401\"", "code=\"403\"", "code=\"429\"", "code=\"503\"" };
    struct kl_auth *a = kl_new(sizeof *a);

    a->options = *o;
    if (o->keys_file != NULL && o->keys_file[0] != '\0')
        a->file = kl_strdup(o->keys_file);
    a->guard = (struct kl_guard){ .judge = judge, .done = done, .ctx = a };
    for (size_t i = 0; i < 4; i++)
        a->refused[i] = o->metrics == NULL ? &a->unseen
            : kl_metrics_add(o->metrics, KL_COUNTER, "koalemos_auth_refused_total", codes[i],
                             "Requests refused: no key or an unknown one, a role or tenant it has not, its rate, "
                             "or an order that cannot be recorded.");
    pthread_mutex_init(&a->lock, NULL);
    if (kl_auth_reload(a, NULL, err) != KL_OK) {
        kl_auth_close(a);
        return err->code;
    }
    *auth = a;
    return KL_OK;
}

void kl_auth_close(struct kl_auth *a)
{
    if (a == NULL)
        return;
    kl_auth_keys_free(&a->keys);
    free(a->buckets);
    free(a->file);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

void                   kl_auth_audit(struct kl_auth *a, struct kl_audit *audit) { a->audit = audit; }
const struct kl_guard *kl_auth_guard(struct kl_auth *a) { return &a->guard; }
bool                   kl_auth_is_on(const struct kl_auth *a) { return a->file != NULL; }
