/* The system calls that no tool of ours has a use for are taken from it. */
#ifndef GOOSEHERD_FILTER_H
#define GOOSEHERD_FILTER_H

/* Holds for this process, all it starts and whatever they become; wants no_new_privs to be set.
 * 0, or the errno with which the kernel refused: ENOSYS or EINVAL where it was built without. */
int load_filter(void);

#endif
