#ifndef KOALEMOS_TOOL_H
#define KOALEMOS_TOOL_H
/* What `inspect` and `verify` share: their arguments, and saying how far they are; and what commands do that ask a server. */
#include <stdbool.h>
#include <stdint.h>

#include "libblock/tools.h"

struct tool {
    const char *name, *path, *keys_file, *keys_command;               /* "koalemos verify"; the folder; NULL: nothing is encrypted */
    bool        json, progress;
    struct kl_env_dir *top;
    struct blk_finds   finds;
    uint64_t bytes, bytes_done, told;                  /* of all filesets that were found */
};
/* False with an exit status: help was asked for, the arguments are wrong, or there is no folder. */
bool tool_open(struct tool *t, const char *name, const char *usage, int argc, char **argv,
               int first, bool json_known, int *status);
/* Said on stderr, at most a hundred times. */
void tool_progress(struct tool *t, size_t done, uint64_t bytes);
void tool_close(struct tool *t);

/* A server's address may end in slashes: how much of it goes before a path. */
int tool_base(const char *url);

int koalemos_inspect(int argc, char **argv, int first);
int koalemos_verify(int argc, char **argv, int first);
#endif
