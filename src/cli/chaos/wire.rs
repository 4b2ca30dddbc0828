//! The switch at work: one thread between the hosts' devices, that reads what they send and hands it on when it is due.
//!
//! The devices are TAPs, whose other ends lie in the hosts' namespaces. They last as long as their file descriptors,
//! which no child of this process inherits: however this process ends, they are gone.

use std::fmt;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tappers::{Interface, Tap};

use crate::cli::chaos::switch::Switch;
use crate::cli::exit::Error;

/// How long the thread sleeps at most: then it looks whether it is to end.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// Frames read from one device before the others have their turn.
const BURST_FRAMES_MAX: usize = 64;
/// The devices carry 1,500 bytes and a header; there is room to spare.
const FRAME_BYTES_MAX: usize = 4 << 10;

/// A new device in this process's own namespace. It goes when it is dropped.
pub fn device(name: &str) -> Result<Tap, Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot make the network device {name}: {error}"));
    let mut tap = Interface::new(name).and_then(Tap::new_named).map_err(failed)?;
    tap.set_nonblocking(true).map_err(failed)?;
    Ok(tap)
}

pub struct Wire {
    switch: Arc<Mutex<Switch>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("stop", &self.stop).finish_non_exhaustive()
    }
}

impl Wire {
    /// Switches between the devices, each at the port of its index, until this is dropped.
    pub fn start(devices: Vec<Tap>, switch: Switch) -> Result<Self, Error> {
        let (switch, stop) = (Arc::new(Mutex::new(switch)), Arc::new(AtomicBool::new(false)));
        let (of_thread, told) = (switch.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("switch".into());
        let thread = thread.spawn(move || carry(devices, &of_thread, &told));
        let thread = thread.map_err(|error| Error::Failed(format!("cannot start the switch: {error}")))?;
        Ok(Self { switch, stop, thread: Some(thread) })
    }

    pub fn switch(&self) -> MutexGuard<'_, Switch> {
        lock(&self.switch)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(switch: &Mutex<Switch>) -> MutexGuard<'_, Switch> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
}

fn carry(devices: Vec<Tap>, switch: &Mutex<Switch>, stop: &AtomicBool) {
    let begin = Instant::now();
    let now_us = || begin.elapsed().as_micros() as u64;
    // A device whose namespace was taken away says nothing but errors: it is let go.
    let mut devices: Vec<Option<Tap>> = devices.into_iter().map(Some).collect();
    let mut buffer = [0; FRAME_BYTES_MAX];
    while !stop.load(Ordering::Relaxed) {
        let due_us = lock(switch).next_due_us();
        let sleep = due_us.map_or(SLEEP_MAX, |due_us| Duration::from_micros(due_us.saturating_sub(now_us())));
        for port in awake(&devices, sleep.min(SLEEP_MAX)) {
            let Some(device) = &devices[port] else { continue };
            if !read_burst(device, port, &mut buffer, switch, now_us()) {
                devices[port] = None;
            }
        }
        loop {
            // Not held while a frame is written: that takes the receiver's kernel all its work.
            let due = lock(switch).take_due(now_us());
            let Some((port, frame)) = due else { break };
            if let Some(Some(device)) = devices.get(port) {
                // A host that takes no more loses the frame, as from a full card.
                let _ = device.send(&frame);
            }
        }
    }
}

/// The ports that have something to say, or nothing more, within `sleep`.
fn awake(devices: &[Option<Tap>], sleep: Duration) -> Vec<usize> {
    let open = devices.iter().enumerate().filter_map(|(port, device)| Some((port, device.as_ref()?)));
    let (ports, mut fds): (Vec<usize>, Vec<PollFd<'_>>) =
        open.map(|(port, device)| (port, PollFd::new(device, PollFlags::IN))).unzip();
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(sleep.subsec_nanos()) };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Vec::new(),
        // Out of memory for a moment: without the pause this would spin.
        Err(_) => {
            std::thread::sleep(sleep);
            return Vec::new();
        }
    }
    ports.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(port, _)| port).collect()
}

/// `false` when the device is gone.
fn read_burst(device: &Tap, port: usize, buffer: &mut [u8], switch: &Mutex<Switch>, now_us: u64) -> bool {
    for _ in 0..BURST_FRAMES_MAX {
        match device.recv(buffer) {
            Ok(len) => lock(switch).handle_frame(port, &buffer[..len], now_us),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return true,
            Err(_) => return false,
        }
    }
    true
}
