/*
 * Which folders are encrypted, and by which keys. The mark is one line of text:
 *
 *   koalemos encrypted 1 <whole|partly> <id of a key, 16 hex digits> ...
 */
#include "libkoal/crypt/vault_priv.h"

#include "libkoal/base/buf.h"
#include "libkoal/base/hex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 1024 };

static const char first_words[] = "koalemos encrypted 1 ";

static enum kl_code parse(const char *text, size_t size, struct kl_vault_mark *m, struct kl_err *err)
{
    char  line[TEXT_MAX + 1], *rest = line, *word;
    bool  fine;

    memcpy(line, text, size);
    line[size] = '\0';
    line[strcspn(line, "\n")] = '\0';
    *m = (struct kl_vault_mark){ 0 };
    fine = strncmp(line, first_words, sizeof first_words - 1) == 0;
    rest = fine ? line + sizeof first_words - 1 : NULL;
    word = fine ? strtok_r(rest, " ", &rest) : NULL;
    m->whole = word != NULL && strcmp(word, "whole") == 0;
    fine = m->whole || (word != NULL && strcmp(word, "partly") == 0);
    while (fine && (word = strtok_r(rest, " ", &rest)) != NULL)
        fine = m->count < KL_KEYS_MAX && kl_unhex(word, strlen(word), m->ids[m->count++], KL_KEY_ID);
    return fine && m->count > 0 ? KL_OK : kl_fail(err, KL_ECORRUPT, KL_VAULT_MARK " is not what it was when written, or "
                                                  "a later version's");
}

enum kl_code kl_vault_mark_read(struct kl_env_dir *raw, struct kl_vault_mark *m, struct kl_err *err)
{
    struct kl_vault_mark got;
    void                *text;
    size_t               size;
    enum kl_code         code = raw->read(raw, KL_VAULT_MARK, TEXT_MAX, &text, &size, err);

    if (code != KL_OK)
        return code;
    code = parse(text, size, &got, err);
    free(text);
    if (code == KL_OK)
        *m = got;
    return code;
}

enum kl_code kl_vault_mark_write(struct kl_env_dir *raw, const struct kl_vault_mark *m, struct kl_err *err)
{
    struct kl_buf       b = { 0 };
    struct kl_env_file *f;
    enum kl_code        code = raw->create(raw, KL_VAULT_MARK ".tmp", &f, err);

    if (code != KL_OK)
        return code;
    kl_buf_addf(&b, "%s%s", first_words, m->whole ? "whole" : "partly");
    for (size_t i = 0; i < m->count; i++) {
        char id[KL_KEY_ID_TEXT];

        kl_hex(m->ids[i], KL_KEY_ID, id);
        kl_buf_addf(&b, " %s", id);
    }
    kl_buf_addf(&b, "\n");
    code = raw->append(f, b.at, b.size, err);
    if (code == KL_OK)
        code = raw->sync(f, err);
    if (code == KL_OK)
        code = raw->publish(f, KL_VAULT_MARK, err);
    raw->close(f);
    kl_buf_deinit(&b);
    if (code == KL_OK)
        return KL_OK;
    raw->remove(raw, KL_VAULT_MARK ".tmp", &(struct kl_err){ 0 });
    return kl_within(err, "write %s", KL_VAULT_MARK);
}

static void folders(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    (void)name, (void)size_bytes;
    *(bool *)ctx |= is_dir;
}

bool kl_vault_passes_by(struct kl_env_dir *root, const char *folder)
{
    struct kl_env_dir *dir;
    struct kl_err      unheard;
    bool               has_folders = false;

    if (strcmp(folder, "lost+found") == 0)             /* no tenant's name, and perhaps not for us to enter */
        return true;
    if ((strcmp(folder, "audit") != 0 && strcmp(folder, "cache") != 0) ||
        root->enter(root, folder, false, &dir, &unheard) != KL_OK)
        return false;
    if (dir->list(dir, folders, &has_folders, &unheard) != KL_OK)
        has_folders = true;
    dir->leave(dir);
    return !has_folders;
}

/* Whether there is something that was to be encrypted; what was never finished was not. */
struct found { struct kl_env_dir *root; bool some; };

static void something(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct found *f = ctx;

    (void)size_bytes;
    f->some |= is_dir ? !kl_vault_passes_by(f->root, name) : strcmp(name, KL_VAULT_MARK ".tmp") != 0;
}

static bool has(const struct kl_vault_mark *m, const uint8_t id[KL_KEY_ID])
{
    for (size_t i = 0; i < m->count; i++)
        if (memcmp(m->ids[i], id, KL_KEY_ID) == 0)
            return true;
    return false;
}

static enum kl_code fits(const struct kl_vault_mark *m, const struct kl_keys *keys, struct kl_err *err)
{
    char id[KL_KEY_ID_TEXT];

    kl_hex(m->ids[0], KL_KEY_ID, id);
    if (keys == NULL)
        return kl_fail(err, KL_EINVAL, "it is encrypted: encryption.keys.file (or .command) should hold the key %s", id);
    if (!m->whole)
        return kl_fail(err, KL_EINVAL, "`koalemos encrypt` was begun here and did not end: run it again");
    for (size_t i = 0; i < m->count; i++)
        if (kl_keys_find(keys, m->ids[i]) == NULL) {
            kl_hex(m->ids[i], KL_KEY_ID, id);
            return kl_fail(err, KL_EINVAL, "files in it are encrypted with the key %s, which is not among those of "
                           "encryption.keys: add it below the first, or `koalemos encrypt` them with another", id);
        }
    return KL_OK;
}

static enum kl_code admit(struct kl_env_dir *raw, struct kl_keys *keys, bool writes, const struct kl_vault_mark *above,
                          struct kl_err *err)
{
    struct kl_vault_mark m;
    struct found         found = { .root = raw };
    enum kl_code         code = kl_vault_mark_read(raw, &m, err);

    if (code == KL_ENOENT && above != NULL)
        return fits(above, keys, err);
    if (code == KL_ENOENT && keys == NULL)
        return KL_OK;
    if (code == KL_ENOENT) {
        if (raw->list(raw, something, &found, err) != KL_OK)
            return err->code;
        if (found.some)
            return kl_fail(err, KL_EINVAL, "it holds files that are not encrypted, and encryption.keys is set: `koalemos "
                           "encrypt` encrypts them, or name a folder that is empty");
        m = (struct kl_vault_mark){ .whole = true };
    } else if (code != KL_OK || fits(&m, keys, err) != KL_OK) {
        return err->code;
    }
    if (has(&m, kl_keys_id(keys, 0)) || !writes)
        return KL_OK;
    if (m.count == KL_KEYS_MAX)
        return kl_fail(err, KL_EINVAL, "files in it are encrypted with %d keys: `koalemos encrypt` them with one", KL_KEYS_MAX);
    memcpy(m.ids[m.count++], kl_keys_id(keys, 0), KL_KEY_ID);
    if (kl_vault_mark_write(raw, &m, err) == KL_OK)
        return KL_OK;
    /* Of several who share a folder and begin at once, another may have written the same. */
    return kl_vault_mark_read(raw, &m, &(struct kl_err){ 0 }) == KL_OK && has(&m, kl_keys_id(keys, 0)) ? KL_OK : err->code;
}

enum kl_code kl_vault_admit(struct kl_env_dir *raw, struct kl_keys *keys, bool writes, const struct kl_vault_mark *above,
                            struct kl_env_dir **dir, struct kl_err *err)
{
    if (admit(raw, keys, writes, above, err) != KL_OK) {
        raw->leave(raw);
        return err->code;
    }
    *dir = keys != NULL ? kl_vault_new(raw, keys) : raw;
    return KL_OK;
}

enum kl_code kl_vault_open(const char *path, bool make, struct kl_keys *keys, bool writes, struct kl_env_dir **dir,
                           struct kl_err *err)
{
    struct kl_vault_mark above, *known = NULL;
    struct kl_env_dir   *raw, *up;
    struct kl_err        unheard;
    char                 place[4096];

    if (kl_env_dir_real_open(path, make, &raw, err) != KL_OK)
        return err->code;
    for (int i = 1; i <= 2 && known == NULL; i++) {
        snprintf(place, sizeof place, "%.4000s/%s", path, i == 1 ? ".." : "../..");
        if (kl_env_dir_real_open(place, false, &up, &unheard) != KL_OK)
            break;
        if (kl_vault_mark_read(up, &above, &unheard) == KL_OK)
            known = &above;
        up->leave(up);
    }
    return kl_vault_admit(raw, keys, writes, known, dir, err);
}
