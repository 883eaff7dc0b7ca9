#include "libkoal/store/options.h"
#include "libkoal/crypt/vault.h"
#include "libkoal/store/folders.h"
#include "libkoal/store/sealed.h"

#include <string.h>

/* s3://bucket/prefix */
static enum kl_code read_bucket(const char *url, struct kl_store_options *o, struct kl_err *err)
{
    const char *rest = url + 5, *slash;
    size_t      n;

    slash = strchr(rest, '/');
    n = slash != NULL ? (size_t)(slash - rest) : strlen(rest);
    if (n == 0 || n >= sizeof o->bucket || memchr(rest, '@', n) != NULL)
        return kl_fail(err, KL_EINVAL, "names no bucket: s3://bucket/prefix; keys come from files");
    memcpy(o->bucket, rest, n);
    o->bucket[n] = '\0';
    rest = slash != NULL ? slash + 1 : "";
    n = strlen(rest);
    if (n > 0 && rest[n - 1] == '/')
        n--;
    if (n >= sizeof o->prefix)
        return kl_fail(err, KL_EINVAL, "has a prefix of more than %d bytes", KL_STORE_S3_PREFIX_MAX);
    memcpy(o->prefix, rest, n);
    o->prefix[n] = '\0';
    o->kind = KL_STORE_S3;
    return KL_OK;
}

static enum kl_code read_url(const char *url, struct kl_store_options *o, struct kl_err *err)
{
    if (strncmp(url, "dir:", 4) == 0 && url[4] != '\0') {
        o->kind = KL_STORE_DIR;
        o->path = url + 4;
        return KL_OK;
    }
    if (strncmp(url, "s3://", 5) == 0)
        return read_bucket(url, o, err) == KL_OK ? KL_OK : kl_within(err, "store.url");
    return kl_fail(err, KL_EINVAL, "store.url \"%.100s\" is neither dir:/path nor s3://bucket/prefix",
                   strchr(url, '@') != NULL ? "(with an @)" : url);
}

static const char *text(const struct kl_config *c, const char *path)
{
    const char *t = kl_config_text(c, path);

    return t != NULL && t[0] != '\0' ? t : NULL;
}

static void read_s3(const struct kl_config *c, struct kl_store_options *o)
{
    const char *style = kl_config_text(c, "store.s3.style");
    const char *conditional = kl_config_text(c, "store.s3.conditional_put");

    o->v2 = strcmp(kl_config_text(c, "store.s3.signature"), "v2") == 0;
    o->s3 = (struct kl_store_s3_options){
        .endpoint = text(c, "store.s3.endpoint"),
        .region = kl_config_text(c, "store.s3.region"),
        .bucket = o->bucket,
        .prefix = o->prefix,
        .access_key_file = text(c, "store.s3.access_key.file"),
        .secret_key_file = text(c, "store.s3.secret_key.file"),
        .token_file = text(c, "store.s3.session_token.file"),
        .ca_file = text(c, "store.s3.ca.file"),
        .proxy = text(c, "store.s3.proxy"),
        .connect_timeout_ms = kl_config_int(c, "store.s3.connect_timeout"),
        .stall_timeout_ms = kl_config_int(c, "store.s3.stall_timeout"),
        .timeout_ms = kl_config_int(c, "store.s3.timeout"),
        .tries = (unsigned)kl_config_int(c, "store.s3.tries"),
        .part_bytes = (uint64_t)kl_config_int(c, "store.s3.part_bytes"),
        .conditional_put = strcmp(conditional, "on") == 0 ? KL_STORE_S3_ON
                         : strcmp(conditional, "off") == 0 ? KL_STORE_S3_OFF : KL_STORE_S3_AUTO,
    };
    o->s3.path_style = strcmp(style, "path") == 0 ||
                       (strcmp(style, "auto") == 0 && o->s3.endpoint != NULL);
}

enum kl_code kl_store_options_read(const struct kl_config *c, struct kl_store_options *o,
                                   struct kl_err *err)
{
    const char *url = text(c, "store.url"), *dir = text(c, "store.dir");

    *o = (struct kl_store_options){ .cell = kl_config_text(c, "cell") };
    if (url != NULL && dir != NULL)
        return kl_fail(err, KL_EINVAL, "store.url and store.dir are both set: they mean the same");
    if (dir != NULL) {
        o->kind = KL_STORE_DIR;
        o->path = dir;
    } else if (url != NULL && read_url(url, o, err) != KL_OK) {
        return err->code;
    }
    read_s3(c, o);
    return KL_OK;
}

/* Once the place is known to be ours. No upload takes a day. That we may not look is no reason to stop. */
static void sweep(struct kl_store *s, struct kl_log *log)
{
    enum { DAY_MS = 24 * 3600 * 1000 };
    unsigned      count;
    struct kl_err err;

    if (kl_store_s3_sweep(s, DAY_MS, &count, &err) != KL_OK)
        kl_logf(log, KL_INFO, "store: left as they are: %s", err.text);
    else if (count > 0)
        kl_logf(log, KL_INFO, "store: %u uploads that were begun more than a day ago and never ended are abandoned",
                count);
}

static enum kl_code open_s3(const struct kl_store_place *p, struct kl_store_options *o, struct kl_store **s,
                            struct kl_err *err)
{
    o->s3.log = p->log;
    o->s3.metrics = p->metrics;
    return (o->v2 ? kl_store_s3v2_open : kl_store_s3_open)(p->env, &o->s3, s, err);
}

/* A folder that the configuration, or an operator, names. */
static enum kl_code open_dir(const struct kl_store_place *p, const char *path, bool make, struct kl_store **s,
                             struct kl_err *err)
{
    struct kl_env_dir *dir;
    bool               by_objects = p->store_key != NULL;

    if ((by_objects ? kl_env_dir_real_open(path, make, &dir, err)
                    : kl_vault_open(path, make, p->keys, p->writes, &dir, err)) != KL_OK)
        return err->code;
    *s = kl_store_dir_owning_new(p->env, dir);
    return KL_OK;
}

enum kl_code kl_store_local(const struct kl_keys *store_key, struct kl_env_dir *data, const char *name, bool make,
                            struct kl_env_dir **dir, struct kl_err *err)
{
    return store_key != NULL ? kl_vault_enter_raw(data, name, make, dir, err)
                             : data->enter(data, name, make, dir, err);
}

static enum kl_code open_raw(const struct kl_store_place *p, struct kl_store_options *o, struct kl_store **s,
                             struct kl_err *err)
{
    if (kl_store_options_read(p->config, o, err) != KL_OK)
        return err->code;
    if (o->kind == KL_STORE_NONE && p->local == NULL)
        return kl_fail(err, KL_EINVAL, "say where the object storage is: --store.url dir:/path or "
                       "s3://bucket/prefix (or --store.dir DIR), the same for every ingestor and querier");
    if (o->kind == KL_STORE_NONE)
        *s = kl_store_dir_shared_new(p->env, p->local);
    else if (o->kind == KL_STORE_DIR && open_dir(p, o->path, true, s, err) != KL_OK)
        return kl_within(err, "store %s", o->path);
    else if (o->kind == KL_STORE_S3 && open_s3(p, o, s, err) != KL_OK)
        return err->code;
    return KL_OK;
}

/* Encrypted, where there is a key for its objects. */
static void seal(const struct kl_store_place *p, struct kl_store **s)
{
    if (p->store_key != NULL)
        *s = kl_store_sealed_new(*s, kl_keys_bytes(p->store_key, 0), p->writes);
}

/* One that is only read, to be taken from, may be encrypted or not. */
static enum kl_code open_at_dir(const struct kl_store_place *p, const char *path, struct kl_store **s, struct kl_err *err)
{
    struct kl_env_dir *dir;

    if (p->writes)
        return open_dir(p, path, true, s, err);
    if (kl_env_dir_real_open(path, false, &dir, err) != KL_OK)
        return err->code;
    *s = kl_store_dir_owning_new(p->env, kl_vault_looking(dir, p->keys));
    return KL_OK;
}

enum kl_code kl_store_open_at(const struct kl_store_place *p, const char *where, bool as_ours,
                              struct kl_store **s, struct kl_err *err)
{
    struct kl_store_options o;

    if (strncmp(where, "s3://", 5) != 0) {
        if (open_at_dir(p, where, s, err) != KL_OK)
            return err->code;
    } else if (as_ours && p->writes && p->keys != NULL && p->store_key == NULL) {
        /* encryption.keys are for folders; what lies there encrypted would lie open in the bucket. */
        return kl_fail(err, KL_EINVAL, "what encryption.keys encrypts would not be encrypted there: name a folder, and "
                       "copy that");
    } else if (kl_store_options_read(p->config, &o, err) != KL_OK || read_bucket(where, &o, err) != KL_OK ||
               open_s3(p, &o, s, err) != KL_OK) {
        return err->code;
    }
    if (!as_ours || p->store_key == NULL)
        return KL_OK;
    seal(p, s);
    if (kl_store_sealed_check(*s, err) == KL_OK)
        return KL_OK;
    (*s)->close(*s);
    *s = NULL;
    return err->code;
}

enum kl_code kl_store_rewrap(const struct kl_store_place *p, const char *new_key_file, struct kl_err *err)
{
    struct kl_store_options o;
    struct kl_store        *s;
    struct kl_keys         *to;
    enum kl_code            code;

    if (p->store_key == NULL)
        return kl_fail(err, KL_EINVAL, "store.encryption_key.file names the key that holds now, and is not set");
    if (kl_keys_read(new_key_file, &to, err) != KL_OK)
        return err->code;
    if (kl_keys_count(to) > 1)
        code = kl_fail(err, KL_EINVAL, "%s: one key is wanted", new_key_file);
    else if ((code = open_raw(p, &o, &s, err)) == KL_OK) {
        code = kl_store_sealed_rewrap(s, kl_keys_bytes(p->store_key, 0), kl_keys_bytes(to, 0), err);
        s->close(s);
    }
    kl_keys_unref(to);
    return code;
}

enum kl_code kl_store_open(const struct kl_store_place *p, struct kl_store **s, struct kl_err *err)
{
    struct kl_store_options o;
    struct kl_store        *inner;
    enum kl_code            code = open_raw(p, &o, s, err);

    if (code != KL_OK)
        return code;
    inner = *s;
    seal(p, s);
    *s = kl_store_cell_new(*s, o.cell, p->writes);
    code = kl_store_cell_check(*s, err);
    if (code == KL_OK && p->writes && o.kind == KL_STORE_S3 && !o.v2)
        sweep(inner, p->log);
    if (code == KL_EAGAIN) {
        kl_logf(p->log, KL_WARN, "store: out of reach, going on without it for now: %s", err->text);
        code = KL_OK;
    }
    if (code == KL_OK)
        return KL_OK;
    (*s)->close(*s);
    *s = NULL;
    return o.kind == KL_STORE_S3 ? kl_within(err, "store s3://%s/%s", o.bucket, o.prefix)
                                 : kl_within(err, "store %s", o.path != NULL ? o.path : "in data-dir");
}

enum kl_code kl_store_open_cache(const struct kl_store_place *p, struct kl_store *inner,
                                 const char *fallback, struct kl_store **flights, struct kl_store **s,
                                 struct kl_err *err)
{
    struct kl_store_options o;
    const char             *path = text(p->config, "store.cache.dir");
    int64_t                 bytes = kl_config_int(p->config, "store.cache.bytes_max");
    struct kl_env_dir      *dir;
    struct kl_keys         *own;

    *s = *flights = NULL;
    if (kl_store_options_read(p->config, &o, err) != KL_OK)
        return err->code;
    if (path == NULL && o.kind == KL_STORE_S3)
        path = fallback;
    if (o.kind == KL_STORE_S3)
        *flights = inner = kl_store_flights_new(p->env, inner, (unsigned)kl_config_int(p->config, "store.hedge"),
                                                p->metrics);
    if (path == NULL || bytes == 0)
        return KL_OK;
    if (p->keys == NULL)
        return kl_store_cache_open(p->env, inner, path, (uint64_t)bytes, p->log, p->metrics, s, err);
    if (kl_env_dir_real_open(path, true, &dir, err) != KL_OK)
        return kl_within(err, "cache");
    /* It begins empty each time, so nobody but this process has to know by which key it is. */
    own = kl_keys_random();
    dir = kl_vault_new(dir, own);
    kl_keys_unref(own);
    return kl_store_cache_open_in(p->env, inner, dir, path, (uint64_t)bytes, p->log, p->metrics, s, err);
}
