/* A seccomp filter (seccomp(2), Documentation/userspace-api/seccomp_filter.rst of the kernel), put together here
 * because the numbers of system calls are the compiler's: one source serves every architecture we build for.
 *
 * It refuses little: new sockets other than pairs of AF_UNIX, and the parts of the kernel that programs reading files and
 * writing files have no use for and that its holes are mostly found in. What is refused with EPERM may be asked for
 * by a library that can do without; what nobody asks for by accident ends the process (SIGSYS). */
#define _GNU_SOURCE
#include "filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#endif

#ifdef MACHINE

/* Where the headers are older than the call. From Linux 5.1 on all architectures have one number for a new call. */
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#define SYS_fspick 433
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif

/* All there are but the one of time, for which clone has no bit: unshare and clone3 make it, and neither is left. */
static const uint32_t NEW_NAMESPACES =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

static const int fatal[] = {
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_setns,
    SYS_unshare,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_open_by_handle_at,
    SYS_process_vm_writev,
#if defined(__x86_64__)
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
};

static const int refused[] = {
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_kcmp,
    SYS_pidfd_getfd,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_fanotify_init,
    SYS_quotactl,
    SYS_acct,
    SYS_syslog,
    SYS_vhangup,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_sethostname,
    SYS_setdomainname,
};

static struct sock_filter program[256];
static unsigned short length;

static void add(uint16_t code, uint32_t operand, uint8_t when, uint8_t otherwise)
{
    program[length++] = (struct sock_filter){code, when, otherwise, operand};
}

static void answer(uint32_t what)
{
    add(BPF_RET | BPF_K, what, 0, 0);
}
static void load(size_t where)
{
    add(BPF_LD | BPF_W | BPF_ABS, (uint32_t)where, 0, 0);
}
/* The low half of an argument is the first: both machines are little-endian. */
static void load_argument(unsigned which)
{
    load(offsetof(struct seccomp_data, args) + 8 * which);
}
static void skip_unless(int number, uint8_t instructions)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, instructions);
}

static void put_together(void)
{
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0);
    answer(SECCOMP_RET_KILL_PROCESS); /* the calls of another machine have other numbers */
    load(offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
    answer(SECCOMP_RET_KILL_PROCESS); /* x32: likewise */
#endif
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        skip_unless(fatal[i], 1);
        answer(SECCOMP_RET_KILL_PROCESS);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        skip_unless(refused[i], 1);
        answer(SECCOMP_RET_ERRNO | EPERM);
    }
    /* Of AF_UNIX too: other programs' sockets lie in the file system, which tools can see. A pair has no address. */
    skip_unless(SYS_socket, 1);
    answer(SECCOMP_RET_ERRNO | EPERM);
    skip_unless(SYS_socketpair, 4);
    load_argument(0);
    add(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1);
    answer(SECCOMP_RET_ALLOW);
    answer(SECCOMP_RET_ERRNO | EPERM);
    /* Its flags lie in memory, where a filter cannot look; C libraries go on with clone. */
    skip_unless(SYS_clone3, 1);
    answer(SECCOMP_RET_ERRNO | ENOSYS);
    skip_unless(SYS_clone, 4);
    load_argument(0);
    add(BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 1, 0);
    answer(SECCOMP_RET_ALLOW);
    answer(SECCOMP_RET_ERRNO | EPERM);
    /* Asking for the present one is fine, and so is asking for the ordinary one. */
    skip_unless(SYS_personality, 5);
    load_argument(0);
    add(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffff, 1, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, PER_LINUX, 0, 1);
    answer(SECCOMP_RET_ALLOW);
    answer(SECCOMP_RET_ERRNO | EPERM);
    /* Typing into the terminal of whoever started us. */
    skip_unless(SYS_ioctl, 5);
    load_argument(1);
    add(BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 1, 0);
    add(BPF_JMP | BPF_JEQ | BPF_K, TIOCLINUX, 0, 1);
    answer(SECCOMP_RET_ERRNO | EPERM);
    answer(SECCOMP_RET_ALLOW);
    answer(SECCOMP_RET_ALLOW);
}

int load_filter(void)
{
    put_together();
    struct sock_fprog whole = {length, program};
    /* Without the flag, kernels before 5.16 also slow the process down against Spectre; it shares nothing with
     * anybody that it could spy on. */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &whole) == 0)
        return 0;
    if (errno != EINVAL)
        return errno;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &whole) == 0 ? 0 : errno;
}

#else

int load_filter(void)
{
    return ENOSYS;
}

#endif
