// Attacks on what is another session's, or the machine's, by name. Each is tried three times: without a sandbox, where it
// must succeed, or it would show nothing; by the session that owns the thing, where that is no matter of rights of the
// machine; and by others, where it must fail.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { alive, as, lines, run } from '../exec.mjs'
import { api, branch, count, data, eventually, owner, perch, port, session, start, temp, url } from '../harness.mjs'

/** Names of this run's own: without a sandbox they are the machine's. */
const KEY = `0x${(0x70000000 + process.pid).toString(16)}`
const NAME = `perch-victim-${process.pid}`
/** Holds a secret in its arguments, environment, memory, folder, an open file, a socket and shared memory. */
const victim = `# perch-victim
import ctypes, os, socket, sys
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
s = socket.socket(socket.AF_UNIX)
s.bind('\\0${NAME}')
s.listen()
print('ready', flush=True)
while True:
    peer, _ = s.accept()
    peer.sendall(secret.encode())
    peer.close()
`
const python = (text) => `python3 - <<'END'\n${text}\nEND`
const pids = `import ctypes, os, re
c = ctypes.CDLL(None, use_errno=True)
def victims():
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if b'perch-vic' + b'tim' in open(f'/proc/{pid}/cmdline', 'rb').read(): yield int(pid)
        except OSError: pass
    yield VICTIM`
const syscall = (call) => python(`import ctypes
c = ctypes.CDLL(None)
c.syscall.restype = ctypes.c_long
if ${call} >= 0: print('HIT')`)

/** `as`: whose doing it is without a sandbox. `own`: whether a session can do it to itself. What succeeds prints the secret, or HIT. */
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
    try:
        mem = open(f'/proc/{pid}/mem', 'rb', 0)
        for line in open(f'/proc/{pid}/maps'):
            lo, hi = [int(x, 16) for x in line.split()[0].split('-')]
            if 'r' not in line.split()[1] or '[v' in line or hi - lo > 1 << 26: continue
            mem.seek(lo)
            for found in re.findall(b'perch-sec' + b'ret-[a-z0-9]+', mem.read(hi - lo)): print(found.decode())
    except (OSError, ValueError): pass`)
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
  { name: 'user_namespace', own: false, shell: (v) => `unshare --user --map-root-user --mount cat ${v.home}/.private/deep/token` },
  { name: 'nsenter', own: false, as: 'root', shell: (v) => `nsenter -t ${v.pid} -m cat ${v.home}/.private/deep/token` },
  { name: 'bind_mount', own: false, as: 'root', shell: (v) => `mkdir -p ~/below; mount --bind ${v.home} ~/below; cat ~/below/.private/deep/token; umount ~/below; rmdir ~/below` },
  { name: 'mount', own: false, as: 'root', shell: () => 'mount -t tmpfs none /mnt && echo HIT' },
  { name: 'read_only_system', own: false, as: 'root', shell: () => 'touch /usr/perch-attack && echo HIT; rm -f /usr/perch-attack' },
  { name: 'device', own: false, as: 'root', shell: () => 'rm -f /tmp/perch-null; mknod /tmp/perch-null c 1 3 && echo > /tmp/perch-null && echo HIT; rm -f /tmp/perch-null' },
  { name: 'kernel_setting', own: false, as: 'root', shell: () => 'cat /proc/sys/kernel/core_pattern > /tmp/perch-core; cat /tmp/perch-core > /proc/sys/kernel/core_pattern && echo HIT; rm -f /tmp/perch-core' },
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
  { name: 'server_environment', own: false, as: 'root', shell: () => 'cat /proc/[0-9]*/environ | tr "\\0" "\\n" | grep ^PERCH_', finds: () => owner },
  { name: 'data_folder', own: false, as: 'root', shell: () => `ls ${data} && echo HIT` },
  { name: 'other_branch', own: false, as: 'root', shell: (v) => `ls ${v.other} && echo HIT` },
  { name: 'server_socket', own: false, as: 'root', shell: () => `curl -sf --noproxy '*' http://127.0.0.1:${port}/healthz >/dev/null && echo HIT` },
  { name: 'server_process', own: false, as: 'root', shell: () => `kill -CONT ${perch.pid} && echo HIT` }
]

const secretName = () => `perch-secret-${Math.random().toString(36).slice(2)}`
/** What a command wrote, which must run to its end. */
async function output(b, s, shell) {
  const { out, err, exit } = await run(b, s, { shell, timeout_ms: 20_000 })
  assert.ok(exit?.code !== undefined, `it ran to its end: ${err.slice(-300)}`)
  return out + err
}
const succeeds = (attack, said, secret) => said.includes(attack.finds?.() ?? secret) || said.includes('HIT')

/** The same table without a sandbox: every attack succeeds, so each is able to. */
async function unsealed(secret, other) {
  const isRoot = process.getuid() === 0
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
  const child = spawn(program, args, { env: { ...env, VICTIM_TOKEN: secret }, cwd: home, stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    await new Promise((resolve, reject) => { child.stdout.once('data', resolve); child.once('exit', reject) })
    const found = { home, pid: child.pid, other }
    const failed = attacks.filter((attack) => isRoot || attack.as !== 'root').filter((attack) => {
      const [file, ...line] = attack.as === 'root' ? ['unshare', '--mount', 'bash', '-c'] : [...user, 'bash', '-c']
      const { stdout, stderr } = spawnSync(file, [...line, attack.shell(found)], { env, cwd: home, encoding: 'utf8', timeout: 20_000 })
      attack.said = stdout + stderr
      return !succeeds(attack, attack.said, secret)
    })
    assert.deepEqual(failed.map((attack) => `${attack.name}: ${attack.said}`), [], 'each attack works where nothing is in its way')
  } finally {
    child.kill('SIGKILL')
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
  await unsealed(secretName(), elsewhere.files)

  const secret = secretName()
  const put = await api('PUT', `/v1/branches/${b.id}/sessions/ann/private/deep/token`, secret, as(ann))
  assert.equal(put.status, 204)
  const hangUp = new AbortController()
  const running = lines(b, ann, { argv: ['python3', '-c', victim, secret], env: { VICTIM_TOKEN: secret } }, hangUp.signal)
  assert.deepEqual((await running.next()).value, { stdout: 'ready\n' })
  const [pid] = alive(secret)
  assert.ok(pid > 0)
  const v = { home: '/root', pid, other: elsewhere.files }
  const wrong = []
  for (const attack of attacks) {
    const shell = attack.shell(v)
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
