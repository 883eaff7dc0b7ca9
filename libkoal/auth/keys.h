#ifndef KL_AUTH_KEYS_H
#define KL_AUTH_KEYS_H
/*
 * The file of API keys: a line a key, `#` begins a comment.
 *
 *   ID SHA256 ROLES TENANTS [rate=REQUESTS_A_SECOND]
 *   9f2c41d07ab85e13 5feceb66...64 hex digits read,write team-a,team-b rate=50
 *
 * A client shows ID.SECRET; the file holds only the secret's SHA-256, so whoever reads the file can
 * ask nothing. ID: 1 to KL_GUARD_KEY_MAX of A-Z a-z 0-9 _ -. ROLES: of read, write, rules, admin; none
 * implies another. TENANTS: names, or * for every one and for what belongs to no tenant. The first is
 * taken where a request names none; where it is *, "anonymous" is.
 * Pure functions over bytes; a table is immutable once parsed, and is anyone's to read.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/crypt/crypt.h"
#include "libkoal/http/guard.h"

enum kl_role { KL_ROLE_READ = 1, KL_ROLE_WRITE = 2, KL_ROLE_RULES = 4, KL_ROLE_ADMIN = 8, KL_ROLES_ALL = 15 };
enum { KL_AUTH_KEYS_MAX = 10000, KL_AUTH_FILE_MAX = 8 << 20, KL_AUTH_TENANTS_MAX = 64,
       KL_AUTH_SECRET_MAX = 128, KL_AUTH_LINE_MAX = 16384, KL_AUTH_RATE_MAX = 1000000 };

struct kl_auth_key {
    char     id[KL_GUARD_KEY_MAX + 1];
    uint8_t  digest[KL_SHA256];
    unsigned roles;
    bool     everywhere;                               /* TENANTS is * */
    uint32_t rate;                                     /* requests a second; 0: what the option says */
    size_t   tenant_count;
    char   **tenants;
};
struct kl_auth_keys { size_t count; struct kl_auth_key *at; };         /* by id, ascending */

/* KL_EINVAL or KL_ELIMIT with the line's number; never a word of a digest. Two of an id: KL_EINVAL. */
enum kl_code kl_auth_keys_parse(struct kl_span text, struct kl_auth_keys *keys, struct kl_err *err);
void         kl_auth_keys_free(struct kl_auth_keys *keys);
const struct kl_auth_key *kl_auth_keys_find(const struct kl_auth_keys *keys, const char *id, size_t id_size);
bool         kl_auth_key_has(const struct kl_auth_key *k, const char *tenant);

/* "read,write": KL_EINVAL on an unknown one, or none. Only what a line may hold. */
enum kl_code kl_auth_roles_parse(const char *text, unsigned *roles, struct kl_err *err);
void         kl_auth_roles_print(unsigned roles, struct kl_buf *out);
bool         kl_auth_tenant_fit(const char *name, size_t size);

/* A new key: its line for the file, without an end, and what is told to its user, once: ID.SECRET.
 * KL_EINVAL as parse would say. The caller wipes `shown`. */
enum { KL_AUTH_SHOWN_MAX = 128 };
enum kl_code kl_auth_key_new(const char *roles, const char *tenants, uint32_t rate, struct kl_buf *line,
                             char shown[KL_AUTH_SHOWN_MAX], struct kl_err *err);

/* What an Authorization header shows: "Bearer KEY", "Token KEY", or "Basic", whose password is the key.
 * `room` is where Basic is unpacked; the caller wipes it. False: none of these. */
enum { KL_AUTH_HEADER_MAX = 1024 };
struct kl_auth_shown { const char *id; size_t id_size; const char *secret; size_t secret_size; };
bool kl_auth_shown(const char *header, char room[KL_AUTH_HEADER_MAX], struct kl_auth_shown *s);

/* ---- the file itself: keys_file.c; the rest asks nothing of the system ---- */
/* KL_EINVAL also where anyone may write it. `s`, or NULL, takes what fstat said. The caller frees. */
struct stat;
enum kl_code kl_auth_file_read(const char *path, char **bytes, size_t *size, struct stat *s, struct kl_err *err);
/* Adds the line, or takes out that of the id (KL_ENOENT: it has none), by writing the file anew beside it
 * and renaming: whoever reads it sees all of the one or of the other, and of two who change it at once neither
 * undoes what the other did. A missing file is made, for its owner alone. */
enum kl_code kl_auth_file_add(const char *path, const char *line, struct kl_err *err);
enum kl_code kl_auth_file_remove(const char *path, const char *id, struct kl_err *err);
#endif
