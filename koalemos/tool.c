#include "koalemos/tool.h"

#include "libkoal/crypt/vault.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool read_args(struct tool *t, const char *usage, int argc, char **argv, int first,
                      bool json_known, int *status)
{
    *status = 2;
    for (int i = first; i < argc; i++) {
        const char *a = argv[i];

        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            fputs(usage, stdout);
            *status = 0;
            return false;
        }
        if (strcmp(a, "--progress") == 0) {
            t->progress = true;
        } else if (strcmp(a, "--json") == 0 && json_known) {
            t->json = true;
        } else if (strcmp(a, "--encryption.keys.file") == 0 && i + 1 < argc) {
            t->keys_file = argv[++i];
        } else if (strncmp(a, "--encryption.keys.file=", 23) == 0) {
            t->keys_file = a + 23;
        } else if (strcmp(a, "--encryption.keys.command") == 0 && i + 1 < argc) {
            t->keys_command = argv[++i];
        } else if (a[0] == '-' || t->path != NULL) {
            fprintf(stderr, "%s: \"%.80s\" is not understood\n%s", t->name, a, usage);
            return false;
        } else {
            t->path = a;
        }
    }
    if (t->path == NULL)
        fprintf(stderr, "%s: say which folder\n%s", t->name, usage);
    return t->path != NULL;
}

bool tool_open(struct tool *t, const char *name, const char *usage, int argc, char **argv,
               int first, bool json_known, int *status)
{
    struct kl_env_dir *raw;
    struct kl_keys    *keys = NULL;
    struct kl_err      err;

    *t = (struct tool){ .name = name, .progress = isatty(STDERR_FILENO) };
    if (!read_args(t, usage, argc, argv, first, json_known, status))
        return false;
    *status = 2;
    if ((t->keys_file != NULL && kl_keys_read(t->keys_file, &keys, &err) != KL_OK) ||
        (t->keys_file == NULL && t->keys_command != NULL && kl_keys_run(t->keys_command, &keys, &err) != KL_OK)) {
        fprintf(stderr, "%s: encryption.keys: %s\n", name, err.text);
        return false;
    }
    if (kl_env_dir_real_open(t->path, false, &raw, &err) != KL_OK) {
        fprintf(stderr, "%s: %s: %s\n", name, t->path, err.text);
        kl_keys_unref(keys);
        return false;
    }
    t->top = kl_vault_looking(raw, keys);
    kl_keys_unref(keys);
    if (blk_find(t->top, &t->finds, &err) != KL_OK) {
        fprintf(stderr, "%s: look through %s: %s\n", name, t->path, err.text);
        t->top->leave(t->top);
        return false;
    }
    for (size_t i = 0; i < t->finds.count; i++)
        t->bytes += t->finds.at[i].bytes;
    return true;
}

void tool_progress(struct tool *t, size_t done, uint64_t bytes)
{
    uint64_t percent;

    t->bytes_done += bytes;
    percent = t->bytes == 0 ? 100 : t->bytes_done * 100 / t->bytes;
    if (!t->progress || (percent == t->told && done < t->finds.count))
        return;
    t->told = percent;
    fprintf(stderr, "%s: %zu of %zu, %" PRIu64 " of %" PRIu64 " MiB, %" PRIu64 " %%\n", t->name,
            done, t->finds.count, t->bytes_done >> 20, t->bytes >> 20, percent);
}

void tool_close(struct tool *t)
{
    blk_finds_deinit(&t->finds);
    t->top->leave(t->top);
}

int tool_base(const char *url)
{
    size_t n = strcspn(url, "?#");

    while (n > 0 && url[n - 1] == '/')
        n--;
    return (int)(n < 1900 ? n : 1900);
}
