#ifndef KOALEMOS_CONFIG_H
#define KOALEMOS_CONFIG_H
/* `koalemos check-config FILE` and `koalemos config schema|page`. Each returns the exit status. */
int koalemos_check_config(int argc, char **argv, int first);
int koalemos_config(int argc, char **argv, int first);
#endif
