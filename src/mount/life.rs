//! A mount from the command line to the last request.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bring_up::bring_up;
use super::daemon::{self, Reporter, Role};
use super::failure::{EXIT_ENDED, EXIT_FAILED, Failure};
use super::fetch::{Fetched, fetch};
use super::keeper::{Keeper, News};
use super::logging::Log;
use super::options::MountOptions;
use super::pid_file::{self, PidFile};
use super::signals::{Signal, Signals};
use super::{fuse_options, kernel_mount, mount_point};
use crate::Translator;
use crate::fuse::{self, FileSystem};
use crate::graph::Switch;
use crate::net::Network;
use crate::net::volfile::Subscription;

/// How long programs may keep files open after SIGTERM has taken the mount away.
const LINGER: Duration = Duration::from_secs(1);
/// How long translators may take to finish after an unmount.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// Network threads.
const NETWORK_THREADS: usize = 1;

/// Mounts, serves until the end, and returns the exit code. In the background the caller's process returns as soon as
/// the mount is there or has failed.
pub fn run(options: MountOptions, warnings: &[String]) -> i32 {
    if !options.daemonize {
        return live(options, warnings, Reporter::foreground());
    }
    match daemon::fork() {
        Ok(Role::Child(reporter)) => live(options, warnings, reporter),
        Ok(Role::Parent(watch)) => match watch.outcome() {
            Ok(()) => 0,
            Err(failure) => {
                eprintln!("rgfs: {failure}");
                failure.code
            }
        },
        Err(error) => {
            eprintln!("rgfs: going to the background: {error}");
            EXIT_FAILED
        }
    }
}

fn live(options: MountOptions, warnings: &[String], reporter: Reporter) -> i32 {
    let started = Signals::block()
        .map_err(|error| Failure::io("blocking signals", error))
        .and_then(|signals| Ok((signals, Life::begin(options, warnings)?)))
        .and_then(|(signals, life)| life.mount(signals));
    let mounted = match started {
        Ok(mounted) => mounted,
        Err(failure) => {
            tracing::error!("{failure}");
            reporter.failed(&failure);
            return failure.code;
        }
    };
    match reporter.ready() {
        Ok(()) => mounted.until_the_end(),
        Err(error) => {
            tracing::error!("whoever asked for the mount is gone ({error}): it is taken away again");
            mounted.life.detach();
            EXIT_FAILED
        }
    }
}

/// All that a mount holds.
pub(super) struct Life {
    pub(super) options: MountOptions,
    pub(super) mount_point: PathBuf,
    pub(super) log: Log,
    pub(super) volfile: Fetched,
    pub(super) network: Network,
    // Hears of changes as long as it is there.
    _subscription: Option<Subscription>,
    pub(super) switch: Arc<Switch>,
    news: Sender<News>,
    pub(super) file_system: Arc<FileSystem>,
    pub(super) started: Instant,
    // Taken by whoever ends the life, for a process that exits drops nothing.
    pid_file: Mutex<Option<PidFile>>,
}

/// A life that serves the kernel.
struct Mounted {
    life: Arc<Life>,
    server: fuse::Server,
}

impl Life {
    /// Everything up to the point where mount(2) may be called.
    fn begin(options: MountOptions, warnings: &[String]) -> Result<Life, Failure> {
        let started = Instant::now();
        let deadline = started + options.mount_timeout;
        let log = start_log(&options)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        for option in fuse_options::without_effect(&options.fuse) {
            tracing::warn!("no effect in rgfs: {option}");
        }
        tracing::info!("rgfs {}: mounting {}", env!("CARGO_PKG_VERSION"), options.display_name);
        if let Some(score) = options.oom_score_adj {
            std::fs::write("/proc/self/oom_score_adj", score.to_string())
                .map_err(|error| Failure::io("--oom-score-adj", error))?;
        }
        let write = |path: &PathBuf| pid_file::write(path).map_err(|error| Failure::io(path.display(), error));
        let pid_file = options.pid_file.as_ref().map(write).transpose()?;
        let mount_point = mount_point::prepare(&options.mount_point)?;
        let network = Network::start(NETWORK_THREADS).map_err(|error| Failure::io("network threads", error))?;
        let mut volfile = fetch(&options.volfile, &network, deadline)?;
        let switch = Switch::new(bring_up(&options, &volfile, &network, deadline, None)?);
        let file_system = FileSystem::new(switch.clone(), fuse_options::for_fuse(&options));
        let (news, heard) = Keeper::channel();
        let keeper = Keeper {
            options: options.clone(),
            network: network.clone(),
            switch: switch.clone(),
            file_system: file_system.clone(),
            origin: volfile.origin.clone(),
            server: volfile.server.clone(),
            text: volfile.text.clone(),
        };
        keeper
            .start((news.clone(), heard))
            .map_err(|error| Failure::io("the thread that follows the volfile", error))?;
        let subscription = volfile.link.take().map(|(fetched, request)| {
            let news = news.clone();
            fetched.subscribe(&network, request, move |text| tell(&news, News::Volfile(text)))
        });
        Ok(Life {
            options,
            mount_point,
            log,
            volfile,
            network,
            _subscription: subscription,
            switch,
            news,
            file_system,
            started,
            pid_file: Mutex::new(pid_file),
        })
    }

    /// Mounts, and begins to serve requests and signals.
    fn mount(self, signals: Signals) -> Result<Mounted, Failure> {
        let device = kernel_mount::mount(&self.options.display_name, &self.mount_point, &self.options.kernel)?;
        let life = Arc::new(self);
        let runtime = life.network.handle().clone();
        let served = fuse::Server::new(life.file_system.clone(), device, runtime).and_then(|server| {
            let life = life.clone();
            let signals = move || life.obey(signals);
            std::thread::Builder::new().name("signals".to_owned()).spawn(signals)?;
            Ok(server)
        });
        match served {
            Ok(server) => {
                life.raise_read_ahead();
                tracing::info!("{} is mounted on {}", life.options.display_name, life.mount_point.display());
                Ok(Mounted { life, server })
            }
            Err(error) => {
                life.detach();
                Err(Failure::io("serving /dev/fuse", error))
            }
        }
    }

    /// Sequential reads come in large requests only when the kernel reads far ahead.
    fn raise_read_ahead(&self) {
        let raised = mount_point::device(&self.mount_point)
            .ok_or_else(|| std::io::Error::other("the mount is not in /proc/self/mountinfo"))
            .and_then(|device| fuse::readahead::raise(&device));
        if let Err(error) = raised {
            tracing::warn!("the kernel's read-ahead stays small: {error}");
        }
    }

    /// Takes the mount away, whoever uses it.
    fn detach(&self) {
        if let Err(error) = kernel_mount::detach(&self.mount_point) {
            tracing::warn!("detaching {}: {error}", self.mount_point.display());
        }
    }

    /// Does what signals ask for, until one asks for the end.
    fn obey(&self, signals: Signals) {
        loop {
            match signals.wait() {
                Ok(Signal::End) => break,
                Ok(Signal::Reload) => self.reload(),
                Ok(Signal::Dump | Signal::Metrics) => self.dump(),
                Err(error) => {
                    tracing::error!("waiting for signals: {error}");
                    return;
                }
            }
        }
        tracing::info!("a signal asks for the end: {} is taken away", self.mount_point.display());
        self.detach();
        // The process ends with its session, as soon as nobody uses the mount; but not later than this.
        std::thread::sleep(LINGER);
        tracing::info!("programs still use the mount; they get errors from now on");
        self.clean_up();
        std::process::exit(EXIT_ENDED);
    }

    /// Opens the log anew, and looks whether the volfile changed.
    fn reload(&self) {
        if let Err(error) = self.log.reopen() {
            tracing::error!("reopening the log: {error}");
        }
        match fetch(&self.options.volfile, &self.network, Instant::now() + self.options.mount_timeout) {
            Ok(fetched) => tell(&self.news, News::Volfile(fetched.text)),
            Err(failure) => tracing::warn!("fetching the volfile: {failure}"),
        }
    }

    /// Lets the translators finish what they put off (a replicate's post-ops). What takes longer is left to the bricks,
    /// which notice that this client is gone, and to self-heal.
    fn drain(&self) {
        let switch = self.switch.clone();
        let drained = async move { tokio::time::timeout(DRAIN_TIME, switch.drain()).await };
        if self.network.handle().block_on(drained).is_err() {
            tracing::warn!("translators did not finish within {} s of the unmount", DRAIN_TIME.as_secs());
        }
    }

    fn clean_up(&self) {
        drop(self.pid_file.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Mounted {
    /// Serves until the mount is gone.
    fn until_the_end(self) -> i32 {
        match self.server.run() {
            Ok(()) => tracing::info!("{} is unmounted", self.life.mount_point.display()),
            Err(error) => {
                tracing::error!("serving /dev/fuse: {error}");
                self.life.detach();
            }
        }
        self.life.drain();
        self.life.clean_up();
        EXIT_ENDED
    }
}

/// Tells the keeper. Nobody listens at the end of the process.
fn tell(keeper: &Sender<News>, news: News) {
    let _ = keeper.send(news);
}

fn start_log(options: &MountOptions) -> Result<Log, Failure> {
    Log::start(&options.log).map_err(|error| {
        let file = options.log.file.as_deref().unwrap_or(Path::new("standard error"));
        Failure::new(format!("log file {}: {error}; choose another with --log-file", file.display()))
    })
}
