#ifndef KOALEMOS_SECURE_H
#define KOALEMOS_SECURE_H
int koalemos_key(int argc, char **argv, int first);
int koalemos_encrypt(int argc, char **argv, int first);
int koalemos_rekey(int argc, char **argv, int first);
int koalemos_audit(int argc, char **argv, int first);
#endif
