"""Python without what Windows does not have, for code that runs on other systems here.

`asyncio` is imported first, because its modules for Unix need some of these names themselves.
"""

REMOVED = """
import asyncio, os, signal, socket, sys

for name in ("SIGHUP", "SIGALRM", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGPIPE", "SIGXCPU", "alarm", "pause",
             "setitimer", "pthread_sigmask", "pthread_kill", "sigwait", "siginterrupt"):
    vars(signal).pop(name, None)
for name in ("fork", "forkpty", "register_at_fork", "sched_getaffinity", "getuid", "geteuid", "getgid", "setsid",
             "killpg", "nice", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "sysconf", "fchmod", "wait4", "pwrite",
             "pread", "memfd_create", "statvfs", "getloadavg", "mkfifo"):
    vars(os).pop(name, None)
for name in ("SO_REUSEPORT", "send_fds", "recv_fds"):
    vars(socket).pop(name, None)
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None

def refuse(*_):
    raise NotImplementedError

def not_allowed(*_, **__):
    raise OSError(1314, "A required privilege is not held by the client")

asyncio.SelectorEventLoop.add_signal_handler = refuse
os.symlink = not_allowed
print("REMOVED", file=sys.stderr)
"""
