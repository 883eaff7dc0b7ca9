#ifndef KL_SEALED_PRIV_H
#define KL_SEALED_PRIV_H
#include "libkoal/store/sealed.h"

/* KL_ENOENT: the store is empty, and no key was to be made. */
enum kl_code kl_sealed_key_open(struct kl_store *s, const uint8_t with[KL_AES_KEY], bool makes,
                                uint8_t store_key[KL_AES_KEY], struct kl_err *err);
#endif
