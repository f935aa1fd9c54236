// Attacks on what is another session's, or the machine's, by name. Each is tried three times: without a sandbox, where it
// must succeed, or it would show nothing; by the session that owns the thing, where that is no matter of rights of the
// machine; and by others, where it must fail.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { alive, as, lines, run } from '../exec.mjs'
import { api, ask, branch, count, data, eventually, owner, perch, port, session, start, temp, url } from '../harness.mjs'

/** Names of this run's own: without a sandbox they are the machine's. */
const KEY = `0x${(0x70000000 + process.pid).toString(16)}`
const NAME = `perch-victim-${process.pid}`
/**
 * Holds a secret in its arguments, environment, memory, folder, an open file, a socket and shared memory. Whoever asks for a
 * path at `~/handing` is handed a descriptor of it.
 */
const victim = `# perch-victim
import ctypes, os, socket, sys, threading
token = os.path.expanduser('~/.private/deep/token')
held = open(token)
secret = held.read()
os.chdir(os.path.dirname(token))
os.makedirs('/dev/shm', exist_ok=True)
open('/dev/shm/${NAME}', 'w').write(secret)
c = ctypes.CDLL(None)
c.shmat.restype = ctypes.c_void_p
block = c.shmget(${KEY}, 4096, 0o1600)
ctypes.memmove(c.shmat(block, None, 0), secret.encode(), len(secret))
def serve(name, answer):
    s = socket.socket(socket.AF_UNIX)
    s.bind(name)
    s.listen()
    def each():
        while True:
            with s.accept()[0] as peer: answer(peer)
    threading.Thread(target=each).start()
def hand(peer):
    fd = os.open(peer.recv(200), os.O_RDONLY)
    socket.send_fds(peer, [b'x'], [fd])
    os.close(fd)
serve('\\0${NAME}', lambda peer: peer.sendall(secret.encode()))
serve(os.path.expanduser('~/handing'), hand)
print('ready', flush=True)
`
const python = (text) => `python3 - <<'END'\n${text}\nEND`
const pids = `import ctypes, os, re
c = ctypes.CDLL(None, use_errno=True)
def victims():
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if b'perch-vic' + b'tim' in open(f'/proc/{pid}/cmdline', 'rb').read(): yield int(pid)
        except OSError: pass
    yield VICTIM
def memory(pid, read):
    try:
        for line in open(f'/proc/{pid}/maps'):
            lo, hi = [int(x, 16) for x in line.split()[0].split('-')]
            if 'r' not in line.split()[1] or '[v' in line or hi - lo > 1 << 26: continue
            for found in re.findall(b'perch-sec' + b'ret-[a-z0-9]+', read(lo, hi - lo)): print(found.decode())
    except (OSError, ValueError): pass`
const syscall = (call, before = '') => python(`import ctypes, os
c = ctypes.CDLL(None)
c.syscall.restype = ctypes.c_long
${before}
if ${call} >= 0: print('HIT')`)
/** `fd`: what the victim hands out for a path; `peer`: the socket that it came through. */
const handed = (name) => `import ctypes, os, signal, socket
c = ctypes.CDLL(None)
peer = socket.socket(socket.AF_UNIX)
peer.connect(os.path.expanduser('~/handing'))
peer.sendall(b'${name}')
fd = socket.recv_fds(peer, 9, 1)[1][0]`
const exchange = "c.syscall(316, -100, b'.private', -100, b'mine', 2)"
/** Words of a system call's structure. */
const words = (...values) => `(ctypes.c_uint64 * ${values.length})(${values})`

/** The database that perch uses. */
const database = process.env.DATABASE_URL
  ? [
      { name: 'database_port', own: false, shell: () => `echo > /dev/tcp/${new URL(process.env.DATABASE_URL).host.replace(':', '/')} && echo HIT` },
      {
        name: 'database_socket', own: false, as: 'root',
        shell: () => python(`import socket\nsocket.socket(socket.AF_UNIX).connect('${ask('show unix_socket_directories')}/.s.PGSQL.${ask('show port')}')\nprint('HIT')`)
      }
    ]
  : [{ name: 'database_file', own: false, as: 'root', shell: () => `head -c 15 ${data}/perch.sqlite | grep -q SQLite && echo HIT` }]
const isRoot = process.getuid() === 0
/** Whether a score, once given, is held (`CAP_SYS_RESOURCE`). */
const canFix = (BigInt(`0x${/CapEff:\s*(\w+)/.exec(fs.readFileSync('/proc/self/status'))[1]}`) >> 24n & 1n) === 1n
const coresAreFiles = !/^[|/]/.test(fs.readFileSync('/proc/sys/kernel/core_pattern'))

/**
 * `as`: whose doing it is without a sandbox. `own`: whether a session can do it to itself. `first`: what the owner of the
 * secret does before. `here`: whether it can be shown here. What succeeds prints the secret, or HIT.
 */
const attacks = [
  { name: 'path', shell: () => 'cat ~/.private/deep/token' },
  { name: 'symlink', shell: () => 'ln -sfn ~/.private/deep/token ~/through; cat ~/through' },
  { name: 'symlink_in_the_workspace', shell: () => 'ln -sfn ~/.private/deep workspace-link; cat workspace-link/token; rm workspace-link' },
  { name: 'hard_link', own: false, shell: () => 'rm -f ~/hard; ln ~/.private/deep/token ~/hard; cat ~/hard; rm -f ~/hard' },
  { name: 'proc_root', shell: (v) => `cat /proc/*/root${v.home}/.private/deep/token` },
  { name: 'proc_cwd', shell: (v) => `cat /proc/*/cwd/token /proc/${v.pid}/cwd/token` },
  { name: 'proc_fd', shell: () => 'for one in /proc/[0-9]*/fd/*; do [ -f "$one" ] && case "$(readlink "$one")" in *token) cat "$one";; esac; done' },
  { name: 'proc_environ', shell: () => 'cat /proc/[0-9]*/environ | tr "\\0" "\\n" | grep ^VICTIM_' },
  { name: 'proc_cmdline', shell: () => 'cat /proc/[0-9]*/cmdline | tr "\\0" "\\n" | grep ^perch-secret' },
  {
    name: 'proc_mem',
    shell: (v) => python(`${pids.replace('VICTIM', v.pid)}
for pid in victims():
    def read(at, count):
        with open(f'/proc/{pid}/mem', 'rb', 0) as mem: return os.pread(mem.fileno(), count, at)
    memory(pid, read)`)
  },
  {
    name: 'process_vm_readv',
    shell: (v) => python(`${pids.replace('VICTIM', v.pid)}
pair = ctypes.c_size_t * 2
for pid in victims():
    def read(at, count):
        into = ctypes.create_string_buffer(count)
        c.process_vm_readv(pid, pair(ctypes.addressof(into), count), 1, pair(at, count), 1, 0)
        return into.raw
    memory(pid, read)`)
  },
  {
    name: 'kcmp',
    shell: (v) => python(`${pids.replace('VICTIM', v.pid)}
for pid in victims():
    if c.syscall(312, os.getpid(), pid, 1, 0, 0) >= 0: print('HIT')`)
  },
  {
    name: 'ptrace',
    shell: (v) => python(`${pids.replace('VICTIM', v.pid)}
for pid in victims():
    if c.ptrace(16, pid, None, None) == 0:
        print('HIT')
        os.waitpid(pid, 0x40000000)
        c.ptrace(17, pid, None, None)`)
  },
  {
    name: 'pidfd_getfd',
    shell: (v) => python(`${pids.replace('VICTIM', v.pid)}
for pid in victims():
    other = c.syscall(434, pid, 0)
    for fd in range(3, 12):
        mine = c.syscall(438, other, fd, 0)
        try: print(os.pread(mine, 200, 0).decode())
        except (OSError, UnicodeDecodeError): pass`)
  },
  { name: 'signal', shell: (v) => `pkill -CONT -f 'perch-vic[t]im' && echo HIT; kill -CONT ${v.pid} && echo HIT` },
  { name: 'abstract_socket', shell: () => python(`import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0${NAME}')\nprint(s.recv(200).decode())`) },
  { name: 'shared_memory_file', shell: () => 'cat /dev/shm/*' },
  {
    name: 'sysv_shared_memory',
    shell: () => python(`import ctypes\nc = ctypes.CDLL(None)\nc.shmat.restype = ctypes.c_void_p\nblock = c.shmget(${KEY}, 4096, 0)\nif block >= 0: print(ctypes.string_at(c.shmat(block, None, 0)).decode())`)
  },
  { name: 'rename', own: false, shell: () => 'mv ~/.private ~/moved && cat ~/moved/deep/token; mv ~/moved ~/.private' },
  {
    name: 'remove', own: false,
    shell: () => 'mv ~/.private/deep ~/deep; rmdir ~/.private && echo HIT; mkdir -p ~/.private; mv ~/deep ~/.private/deep'
  },
  { name: 'exchange', own: false, shell: (v) => `cd ${v.home}; mkdir -p mine; ${syscall([exchange, exchange].join(' + '))}` },
  {
    name: 'core_dump', own: false, here: coresAreFiles,
    first: () => `ulimit -c unlimited; cd ~; ${python("import os; held = open('.private/deep/token').read(); os.abort()")}; true`,
    shell: () => "grep -aoh 'perch-sec[r]et-[a-z0-9]*' ~/core*; rm -f ~/core*"
  },
  { name: 'user_namespace', own: false, shell: (v) => `unshare --user --map-root-user --mount cat ${v.home}/.private/deep/token` },
  { name: 'nsenter', own: false, as: 'root', shell: (v) => `nsenter -t ${v.pid} -m cat ${v.home}/.private/deep/token` },
  { name: 'bind_mount', own: false, as: 'root', shell: (v) => `mkdir -p ~/below; mount --bind ${v.home} ~/below; cat ~/below/.private/deep/token; umount ~/below; rmdir ~/below` },
  {
    name: 'mount_of_a_tree', own: false, as: 'root',
    shell: (v) => python(`import ctypes\ntree = ctypes.CDLL(None).syscall(428, -100, b'${v.home}', 1)\nprint(open(f'/proc/self/fd/{tree}/.private/deep/token').read())`)
  },
  {
    name: 'mount_anew', own: false, as: 'root',
    shell: () => syscall("c.syscall(429, made, b'', -100, b'/mnt', 4)", "made = c.syscall(430, b'tmpfs', 0)\nc.syscall(431, made, 6, None, None, 0)\nmade = c.syscall(432, made, 0, 0)")
  },
  { name: 'mount_flags', own: false, as: 'root', shell: () => syscall(`c.syscall(442, -100, b'/', 0, ${words(0, 1, 0, 0)}, 32)`) },
  { name: 'pivot_root', own: false, as: 'root', shell: () => `mount --bind ~ ~; cd ~; ${syscall("c.syscall(155, b'.', b'.')")}` },
  { name: 'chroot', own: false, as: 'root', shell: () => python(`import os\nos.chdir(os.path.expanduser('~'))\nos.chroot('.private')\nos.chdir('../' * 20)\nos.chroot('.')\nos.listdir('${data}')\nprint('HIT')`) },
  { name: 'clone', own: false, shell: () => syscall('c.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)') },
  { name: 'clone3', own: false, shell: () => syscall(`c.syscall(435, ${words('0x10000000', 0, 0, 0, 17, 0, 0, 0)}, 64)`) },
  {
    name: 'handed_folder', own: false, as: 'root',
    shell: (v) => python(`${handed(v.home)}\nos.listdir(os.open('../' * 20 + '${data.slice(1)}', os.O_RDONLY, dir_fd=fd))\nprint('HIT')`)
  },
  { name: 'handed_namespace', own: false, as: 'root', shell: () => python(`${handed('/proc/self/ns/mnt')}\nif c.setns(fd, 0) == 0: print('HIT')`) },
  {
    name: 'process_of_a_peer',
    shell: () => python(`${handed('/')}
other = peer.getsockopt(1, 77)
for number in range(3, 12):
    try: print(os.pread(c.syscall(438, other, number, 0), 200, 0).decode())
    except (OSError, UnicodeDecodeError): pass`)
  },
  { name: 'signal_to_a_peer', shell: () => python(`${handed('/')}\nif c.syscall(424, peer.getsockopt(1, 77), signal.SIGCONT, None, 0) == 0: print('HIT')`) },
  { name: 'agent_memory', own: false, shell: (v) => python(`open('/proc/${v.agent}/mem', 'r+b', 0)\nprint('HIT')`) },
  { name: 'agent_compared', own: false, shell: (v) => syscall(`c.syscall(312, os.getpid(), ${v.agent}, 1, 0, 0)`) },
  { name: 'agent_descriptors', own: false, shell: (v) => `ls -l /proc/${v.agent}/fd/0 && echo HIT` },
  { name: 'agent_pidfd_getfd', own: false, shell: (v) => syscall(`c.syscall(438, c.syscall(434, ${v.agent}, 0), 0, 0)`) },
  { name: 'agent_traced', own: false, shell: (v) => syscall(`c.ptrace(0x4206, ${v.agent}, None, None)`) },
  { name: 'agent_killed', own: false, shell: (v) => `kill -STOP ${v.agent}; kill -KILL ${v.agent}; sleep 0.2; grep 'State:.[TZ]' /proc/${v.agent}/status && echo HIT` },
  { name: 'mount', own: false, as: 'root', shell: () => 'mount -t tmpfs none /mnt && echo HIT' },
  { name: 'read_only_system', own: false, as: 'root', shell: () => 'touch /usr/perch-attack && echo HIT; rm -f /usr/perch-attack' },
  { name: 'device', own: false, as: 'root', shell: () => 'rm -f /tmp/perch-null; mknod /tmp/perch-null c 1 3 && echo > /tmp/perch-null && echo HIT; rm -f /tmp/perch-null' },
  ...['kernel/core_pattern', 'kernel/hostname', 'vm/overcommit_memory', 'net/ipv4/ip_forward'].map((setting) => ({
    name: `setting ${setting}`, own: false, as: 'root',
    shell: () => `read -r is < /proc/sys/${setting}; echo "$is" > /proc/sys/${setting} && echo HIT`
  })),
  { name: 'out_of_memory_score', own: false, here: canFix, shell: () => 'echo 500 > /proc/self/oom_score_adj; echo 0 > /proc/self/oom_score_adj && echo HIT' },
  { name: 'core_file', own: false, as: 'root', shell: () => 'ulimit -H -c unlimited; ulimit -c unlimited && echo HIT' },
  {
    name: 'set_id_program',
    own: false,
    shell: () => python(`import subprocess, time
su = subprocess.Popen(['su'], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
for _ in range(50):
    time.sleep(0.02)
    if su.poll() is not None: break
    status = dict(line.split(':', 1) for line in open(f'/proc/{su.pid}/status'))
    if status['Name'].strip() == 'su' and int(status['CapEff'], 16):
        print('HIT')
        break
su.stdin.close()`)
  },
  { name: 'ids_of_others', own: false, as: 'root', shell: () => 'touch /tmp/perch-owned; chown 12345 /tmp/perch-owned && echo HIT; rm -f /tmp/perch-owned' },
  { name: 'io_uring', own: false, shell: () => syscall('c.syscall(425, 8, ctypes.create_string_buffer(120))') },
  { name: 'userfaultfd', own: false, as: 'root', shell: () => syscall('c.syscall(323, 1)') },
  { name: 'keyring', own: false, shell: () => syscall('c.syscall(250, 0, -3, 1)') },
  { name: 'file_handle', own: false, shell: (v) => syscall(`c.syscall(303, -100, b'${v.home}/.private', ctypes.create_string_buffer(b'\\x80\\0\\0\\0', 136), ctypes.byref(ctypes.c_int()), 0)`) },
  { name: 'forged_file_handle', own: false, as: 'root', shell: (v) => syscall(`c.syscall(304, c.open(b'${v.home}', 0), bytes.fromhex('${v.handle}'), 0)`) },
  { name: 'bpf', own: false, as: 'root', shell: () => syscall('c.syscall(321, 0, (ctypes.c_uint32 * 18)(2, 4, 4, 1), 72)') },
  { name: 'perf_event', own: false, shell: () => syscall(`c.syscall(298, ${words(1 + 64 * 2 ** 32, 0, 0, 0, 0, 0x60, 0, 0)}, 0, -1, -1, 0)`) },
  // The kernel looks at the lower half of a request alone.
  ...['0x5412', '0x5412 | 1 << 32'].map((request) => ({
    name: `terminal_input ${request}`, own: false, as: 'root',
    shell: () => python(`import ctypes, os, pty
child, terminal = pty.fork()
if child == 0:
    if ctypes.CDLL(None).syscall(16, 0, ctypes.c_uint64(${request}), b'x') == 0: os.write(1, b'HIT')
    os._exit(0)
os.waitpid(child, 0)
os.set_blocking(terminal, False)
try:
    while said := os.read(terminal, 200): print(said.decode())
except OSError: pass`)
  })),
  {
    // As `keyring`, by the 32-bit entry: a filter of 64-bit numbers would miss it. Bash shows the text of what a signal ended.
    name: 'call_of_32_bits', own: false,
    shell: () => `${python(`import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex('53 b820010000 31db b9fdffffff ba01000000 cd80 5b c3'))
if ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() > 0: print('HI' 'T')`)}\ntrue`
  },
  ...database,
  { name: 'server_environment', own: false, as: 'root', shell: () => 'cat /proc/[0-9]*/environ | tr "\\0" "\\n" | grep ^PERCH_', finds: () => owner },
  { name: 'data_folder', own: false, as: 'root', shell: () => `ls ${data} && echo HIT` },
  { name: 'other_branch', own: false, as: 'root', shell: (v) => `ls ${v.other} && echo HIT` },
  { name: 'server_socket', own: false, as: 'root', shell: () => `curl -sf --noproxy '*' http://127.0.0.1:${port}/healthz >/dev/null && echo HIT` },
  { name: 'server_process', own: false, as: 'root', shell: () => `kill -CONT ${perch.pid} && echo HIT` }
].filter((attack) => attack.here !== false)

const secretName = () => `perch-secret-${Math.random().toString(36).slice(2)}`
/** What a command wrote, which must run to its end. */
async function output(b, s, shell) {
  const { out, err, exit } = await run(b, s, { shell, timeout_ms: 20_000 })
  assert.ok(exit?.code !== undefined, `it ran to its end: ${err.slice(-300)}`)
  return out + err
}
const succeeds = (attack, said, secret) => said.includes(attack.finds?.() ?? secret) || said.includes('HIT')

/** The same table without a sandbox: every attack succeeds, so each is able to. */
async function unsealed(secret, other, handle) {
  const home = fs.mkdtempSync(path.join(temp, 'unsealed-'))
  const id = 1_899_000_000 + process.pid
  fs.mkdirSync(path.join(home, '.private/deep'), { recursive: true })
  fs.writeFileSync(path.join(home, '.private/deep/token'), secret)
  if (isRoot) execFileSync('chown', ['-R', `${id}:${id}`, home])
  for (const folder of [temp, home]) fs.chmodSync(folder, 0o755)
  if (!isRoot) console.log('not as root: attacks that take root have no control here')
  const user = !isRoot ? ['env'] : ['setpriv', `--reuid=${id}`, `--regid=${id}`, '--clear-groups']
  // As in a session; what else is on the path may be nobody else's.
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: home }
  const [program, ...args] = [...user, 'python3', '-c', victim, secret]
  // Where the agent would be.
  const agent = spawn(user[0], [...user.slice(1), 'sleep', '1000'], { env })
  const child = spawn(program, args, { env: { ...env, VICTIM_TOKEN: secret }, cwd: home, stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    await new Promise((resolve, reject) => { child.stdout.once('data', resolve); child.once('exit', reject) })
    const found = { home, pid: child.pid, agent: agent.pid, other, handle }
    const failed = attacks.filter((attack) => isRoot || attack.as !== 'root').filter((attack) => {
      const did = ([file, ...line], shell) => spawnSync(file, [...line, 'bash', '-c', shell], { env, cwd: home, encoding: 'utf8', timeout: 20_000 })
      if (attack.first) did(user, attack.first())
      const { stdout, stderr } = did(attack.as === 'root' ? ['unshare', '--mount'] : user, attack.shell(found))
      attack.said = stdout + stderr
      return !succeeds(attack, attack.said, secret)
    })
    assert.deepEqual(failed.map((attack) => `${attack.name}: ${attack.said}`), [], 'each attack works where nothing is in its way')
  } finally {
    child.kill('SIGKILL')
    agent.kill('SIGKILL')
    spawnSync('ipcrm', ['-M', KEY])
    fs.rmSync(`/dev/shm/${NAME}`, { force: true })
  }
}

/** Every attack by its name: works without a sandbox, works on oneself, fails on others. */
export async function sealed() {
  await start()
  const b = await branch()
  const elsewhere = await branch({ name: 'elsewhere' })
  const [ann, bob, far] = [await session(b, 'ann'), await session(b, 'bob'), await session(elsewhere, 'ann')]
  // What the kernel calls the data folder: whoever may open by that needs no path.
  const handle = execFileSync('python3', ['-c', `import ctypes
handle = ctypes.create_string_buffer(b'\\x80\\0\\0\\0', 136)
ctypes.CDLL(None).name_to_handle_at(-100, b'${data}', handle, ctypes.byref(ctypes.c_int()), 0)
print(handle.raw.hex())`]).toString().trim()
  await unsealed(secretName(), elsewhere.files, handle)

  const secret = secretName()
  const put = await api('PUT', `/v1/branches/${b.id}/sessions/ann/private/deep/token`, secret, as(ann))
  assert.equal(put.status, 204)
  const hangUp = new AbortController()
  const running = lines(b, ann, { argv: ['python3', '-c', victim, secret], env: { VICTIM_TOKEN: secret } }, hangUp.signal)
  assert.deepEqual((await running.next()).value, { stdout: 'ready\n' })
  const [pid] = alive(secret)
  assert.ok(pid > 0)
  const v = { home: '/root', pid, agent: 1, other: elsewhere.files, handle }
  const wrong = []
  for (const attack of attacks) {
    const shell = attack.shell(v)
    if (attack.first) await output(b, ann, attack.first())
    if (attack.own !== false) {
      const said = await output(b, ann, shell)
      if (!succeeds(attack, said, secret)) wrong.push(`${attack.name} fails on oneself: ${said}`)
    }
    for (const [where, who, name] of [[b, bob, 'by another session'], [elsewhere, far, 'from another branch']]) {
      const said = await output(where, who, shell)
      if (succeeds(attack, said, secret) || said.includes(secret)) wrong.push(`${attack.name} works ${name}: ${said}`)
    }
  }
  assert.deepEqual(wrong, [])
  // What a session hands over it gives away, and with a folder all that it sees itself (docs/isolation.md).
  const given = `os.open('../../root/.private/deep/token', os.O_RDONLY, dir_fd=fd)`
  assert.equal(await output(b, bob, python(`${handed('/project/workspace')}\nprint(os.read(${given}, 200).decode())`)), `${secret}\n`)

  // What a session does in its own `.private` is no event for others; what it does in the open is.
  const watch = python(`import ctypes, os, select, time
c = ctypes.CDLL(None)
fd = c.inotify_init1(0o4000)
for folder in ['/root', '/root/.private', '/root/.private/deep', '/run/perch/private', '/project/workspace']: c.inotify_add_watch(fd, folder.encode(), 0xfff)
open('/project/workspace/watching', 'w').close()
end = time.time() + 20
seen = b''
while time.time() < end and b'in-the-open' not in seen:
    if select.select([fd], [], [], 0.1)[0]: seen += os.read(fd, 65536)
print(seen.decode(errors='replace').replace('\\0', ' '))`)
  const stream = await fetch(`${url}/v1/branches/${b.id}/events?token=${bob.token}`, { signal: hangUp.signal })
  let told = ''
  const listening = (async () => { for await (const text of stream.body.pipeThrough(new TextDecoderStream())) told += text })().catch(() => {})
  const watching = output(b, bob, watch)
  await eventually('it watches', () => fs.existsSync(path.join(b.files, 'watching')))
  assert.equal((await api('PUT', `/v1/branches/${b.id}/sessions/ann/private/deep/${secret}`, 'x', as(ann))).status, 204)
  await output(b, ann, `touch ~/.private/of-${secret}; touch ~/in-the-open; touch in-the-open`)
  const seen = await watching
  assert.match(seen, /in-the-open/)
  assert.equal(count(seen, secret), 0)
  await eventually('the open is told of', () => told.includes('in-the-open'))
  assert.equal(count(told, secret), 0)
  // Nor is it found by a search.
  fs.writeFileSync(path.join(b.files, 'found.txt'), 'perch-secret-in-the-open\n')
  const search = await (await api('GET', `/v1/branches/${b.id}/search?query=perch-secret`, undefined, as(bob))).text()
  assert.match(search, /found\.txt/)
  assert.equal(count(search, secret), 0)
  hangUp.abort()
  await listening
}
