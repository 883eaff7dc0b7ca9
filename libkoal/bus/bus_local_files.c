/* The small files beside the segments: META says what the log is, MARKS what of it is purged. */
#include "libkoal/bus/bus_local_priv.h"

#include "libkoal/base/buf.h"
#include "libkoal/base/hash.h"

#include <stdlib.h>

static const char meta_magic[8] = "KOALOG1\n", marks_magic[8] = "KOAMRK1\n";
enum { SMALL_MAX = 16 + 8 * KL_BUS_PARTITIONS_MAX + 16 };

enum kl_code kl_busl_publish(struct kl_env_dir *dir, const char *tmp, const char *name,
                             struct kl_span bytes, struct kl_err *err)
{
    struct kl_env_file *f;
    enum kl_code code;

    if (dir->create(dir, tmp, &f, err) != KL_OK)
        return kl_within(err, "write %s", name);
    code = dir->append(f, bytes.at, bytes.size, err);
    if (code == KL_OK)
        code = dir->sync(f, err);
    if (code == KL_OK && (code = dir->publish(f, name, err)) == KL_ELIMIT)
        err->code = KL_EIO;                            /* it may be the new one, and its folder stays so */
    dir->close(f);
    if (code == KL_OK)
        return KL_OK;
    dir->remove(dir, tmp, &(struct kl_err){ 0 });
    return kl_within(err, "write %s", name);
}

/* A small file is its magic, its fields, and a checksum of all that. */
static enum kl_code seal(struct kl_env_dir *dir, const char *tmp, const char *name,
                         struct kl_buf *b, struct kl_err *err)
{
    kl_buf_add32(b, kl_crc32c(0, b->at, b->size));
    return kl_busl_publish(dir, tmp, name, kl_buf_span(b), err);
}

static enum kl_code unseal(struct kl_env_dir *dir, const char *name, const char magic[8],
                           void **bytes, struct kl_cur *c, struct kl_err *err)
{
    struct kl_cur tail;
    size_t size;

    if (dir->read(dir, name, SMALL_MAX, bytes, &size, err) != KL_OK)
        return err->code;
    if (size < 12 || memcmp(*bytes, magic, 8) != 0) {
        free(*bytes);
        return kl_fail(err, KL_ECORRUPT, "%s is not what it was when written", name);
    }
    tail = kl_cur((char *)*bytes + size - 4, 4);
    if (kl_cur_32(&tail) != kl_crc32c(0, *bytes, size - 4)) {
        free(*bytes);
        return kl_fail(err, KL_ECORRUPT, "%s: its checksum is wrong", name);
    }
    *c = kl_cur((char *)*bytes + 8, size - 12);
    return KL_OK;
}

enum kl_code kl_busl_meta_open(struct kl_env *env, struct kl_env_dir *dir, uint32_t partitions,
                               bool may_create, uint64_t *incarnation, struct kl_err *err)
{
    struct kl_buf b;
    struct kl_cur c;
    void *bytes;
    uint32_t version, found;
    uint64_t made;

    struct kl_err why;
    enum kl_code code = unseal(dir, "META", meta_magic, &bytes, &c, &why);

    if (code == KL_OK) {
        version = kl_cur_32(&c);
        found = kl_cur_32(&c);
        made = kl_cur_64(&c);
        free(bytes);
        if (c.bad || version != 1)
            return kl_fail(err, KL_EINVAL, "META has version %u; this program reads 1", version);
        if (found != partitions)
            return kl_fail(err, KL_EINVAL,
                           "the log was made for %u partitions; the configuration says %u", found,
                           partitions);
        *incarnation = made;
        return KL_OK;
    }
    if (code != KL_ENOENT) {
        *err = why;
        return code;
    }
    if (!may_create)
        return kl_fail(err, KL_ECORRUPT, "there are segments, but no META to say whose they are");

    made = (uint64_t)kl_env_now_ms(env) * 1000000 + (uint64_t)kl_env_mono_ns(env) % 1000000;
    kl_buf_init(&b, SMALL_MAX);
    kl_buf_add(&b, meta_magic, 8);
    kl_buf_add32(&b, 1);
    kl_buf_add32(&b, partitions);
    kl_buf_add64(&b, made);
    code = seal(dir, "META.tmp", "META", &b, err);
    kl_buf_deinit(&b);
    if (code == KL_OK)
        *incarnation = made;
    return code;
}

enum kl_code kl_busl_marks_read(struct kl_env_dir *dir, uint32_t partitions, uint64_t *marks,
                                struct kl_err *err)
{
    struct kl_cur c;
    void *bytes;
    uint32_t version, found;

    if (unseal(dir, "MARKS", marks_magic, &bytes, &c, err) != KL_OK)
        return err->code == KL_ENOENT ? KL_OK : err->code;
    version = kl_cur_32(&c);
    found = kl_cur_32(&c);
    if (version != 1 || found != partitions || kl_cur_left(&c) != 8ull * partitions) {
        free(bytes);
        return kl_fail(err, KL_ECORRUPT, "MARKS is not of this log");
    }
    for (uint32_t p = 0; p < partitions; p++)
        marks[p] = kl_cur_64(&c);
    free(bytes);
    return KL_OK;
}

enum kl_code kl_busl_marks_write(struct kl_env_dir *dir, uint32_t partitions,
                                 const uint64_t *marks, struct kl_err *err)
{
    struct kl_buf b;
    enum kl_code code;

    kl_buf_init(&b, SMALL_MAX);
    kl_buf_add(&b, marks_magic, 8);
    kl_buf_add32(&b, 1);
    kl_buf_add32(&b, partitions);
    for (uint32_t p = 0; p < partitions; p++)
        kl_buf_add64(&b, marks[p]);
    code = seal(dir, "MARKS.tmp", "MARKS", &b, err);
    kl_buf_deinit(&b);
    return code;
}
