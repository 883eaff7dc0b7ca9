/*
 * Uploads in parts that nobody ended: of a process that was killed in the middle. Their parts are in no
 * list and cost money. Who opens the store for writing looks for them once, and abandons those that are
 * older than any upload takes; of more than a page the next start finds the rest. A list of uploads does
 * not tell whose they are, so in a bucket without a prefix, where others may have some, all are left alone.
 */
#include "libkoal/store/store_s3_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAGE = 1000 };

struct old { char *key, *id; };
struct found { struct kl_s3 *s; int64_t before_ms; struct old at[PAGE]; unsigned count; };

static void each(void *ctx, const char *key, const char *id, int64_t begun_ms)
{
    struct found *f = ctx;
    size_t        n = strlen(f->s->o.prefix);

    /* What else lies in the bucket is not ours. */
    if (f->count == PAGE || begun_ms >= f->before_ms || strncmp(key, f->s->o.prefix, n) != 0 ||
        !kl_store_key_fit(key + n))
        return;
    f->at[f->count++] = (struct old){ kl_strdup(key + n), kl_strdup(id) };
}

static enum kl_code find(struct kl_s3 *s, struct found *f, struct kl_err *err)
{
    struct kl_buf     query = { 0 };
    struct kl_s3_call c = { .method = "GET", .body_max = KL_S3_LIST_BODY_MAX };
    enum kl_code      code;

    /* Ceph encodes keys when asked to, and does not say so; ours need no encoding. */
    kl_buf_addf(&query, "max-uploads=%d&prefix=", PAGE);
    kl_s3_encode(s->o.prefix, true, &query);
    kl_buf_adds(&query, "&uploads=");
    kl_buf_add8(&query, '\0');
    c.query = query.at;
    code = kl_s3_call(s, &c, err);
    if (code == KL_OK)
        code = kl_s3_xml_uploads(kl_buf_span(&c.answer.body), each, f, err);
    kl_s3_call_end(&c);
    kl_buf_deinit(&query);
    return code;
}

static enum kl_code abandon(struct kl_s3 *s, const struct old *u, struct kl_err *err)
{
    struct kl_buf     query = { 0 };
    struct kl_s3_call c = { .method = "DELETE", .key = u->key };
    enum kl_code      code;

    kl_buf_adds(&query, "uploadId=");
    kl_s3_encode(u->id, true, &query);
    kl_buf_add8(&query, '\0');
    c.query = query.at;
    code = kl_s3_call(s, &c, err);
    kl_s3_call_end(&c);
    kl_buf_deinit(&query);
    return code == KL_ENOENT ? KL_OK : code;           /* it has ended meanwhile */
}

enum kl_code kl_store_s3_sweep(struct kl_store *store, int64_t age_ms, unsigned *count, struct kl_err *err)
{
    struct kl_s3 *s = (struct kl_s3 *)store;
    struct found *f;
    enum kl_code  code;

    *count = 0;
    if (s->o.prefix[0] == '\0')
        return KL_OK;
    f = kl_new(sizeof *f);
    f->s = s;
    f->before_ms = kl_env_now_ms(s->env) - age_ms;
    code = find(s, f, err);
    for (unsigned i = 0; i < f->count; i++) {
        if (code == KL_OK && (code = abandon(s, &f->at[i], err)) == KL_OK)
            ++*count;
        free(f->at[i].key);
        free(f->at[i].id);
    }
    free(f);
    return code == KL_OK ? KL_OK : kl_within(err, "uploads that nobody ended");
}
