// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread per loaded engine, two where it has a twin, shared by all elements of the process that want the same
//! one.

use std::any::Any;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use i2sb::Cancel;

use super::{About, Engine, EngineError};

/// Work for an engine; `Break` says that the engine is no longer sound.
pub type Job = Box<dyn FnOnce(&mut dyn Engine) -> ControlFlow<()> + Send>;

/// Makes the engine, on the engine's thread.
pub type Loader = Box<dyn FnOnce() -> Result<Box<dyn Engine>, EngineError> + Send>;

/// Told once about the end of loading: who was loaded, or why not.
pub type Listener = Box<dyn FnOnce(Result<&About, &str>) + Send>;

/// What makes two elements share an engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What was loaded: the hash of the weights, or the name of a provided engine.
    pub model: String,
    /// Device as in the property.
    pub device: String,
    /// Precision as in the property.
    pub precision: String,
}

enum Progress {
    Loading(Vec<Listener>),
    Ready(About),
    Failed(String),
}

/// A handle on an engine's thread; the thread ends after the last handle is gone.
pub struct Worker {
    jobs: mpsc::Sender<Job>,
    progress: Arc<Mutex<Progress>>,
    cancel: Cancel,
    id: u64,
    /// When it last ended a piece of work.
    ended: Mutex<Option<Instant>>,
}

static WORKERS: LazyLock<Mutex<HashMap<Key, Weak<Worker>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// The sound worker for `key`, or a new one that runs `loader`.
    ///
    /// # Errors
    /// The system's reason if no thread can be started.
    pub fn shared(key: &Key, loader: Loader) -> std::io::Result<Arc<Self>> {
        let mut workers = lock(&WORKERS);
        workers.retain(|_, worker| worker.strong_count() > 0);
        if let Some(worker) = workers.get(key).and_then(Weak::upgrade)
            && !matches!(*lock(&worker.progress), Progress::Failed(_))
        {
            return Ok(worker);
        }
        let worker = Arc::new(Self::start(loader)?);
        workers.insert(key.clone(), Arc::downgrade(&worker));
        Ok(worker)
    }

    fn start(loader: Loader) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let progress = Arc::new(Mutex::new(Progress::Loading(Vec::new())));
        let cancel = Cancel::default();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (told, token) = (progress.clone(), cancel.clone());
        std::thread::Builder::new()
            .name("i2sb-engine".into())
            .spawn(move || run(loader, queue, &told, &token))?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { jobs, progress, cancel, id, ended: Mutex::default() })
    }

    /// Tells this worker from every other of the process, past and present.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Calls `listener` once loading has ended: at once if it has, else from the engine's thread.
    pub fn when_loaded(&self, listener: Listener) {
        let mut progress = lock(&self.progress);
        let result = match &mut *progress {
            Progress::Loading(listeners) => return listeners.push(listener),
            Progress::Ready(about) => Ok(about.clone()),
            Progress::Failed(reason) => Err(reason.clone()),
        };
        drop(progress);
        listener(result.as_ref().map_err(String::as_str));
    }

    /// Who the engine is, once loaded.
    pub fn about(&self) -> Option<About> {
        match &*lock(&self.progress) {
            Progress::Ready(about) => Some(about.clone()),
            _ => None,
        }
    }

    /// Whether loading has not ended yet.
    pub fn is_loading(&self) -> bool {
        matches!(*lock(&self.progress), Progress::Loading(_))
    }

    /// What work that began at `start` and ends now took of the engine: of two pieces side by side, the second
    /// counts from the end of the first.
    pub fn took(&self, start: Instant) -> Duration {
        let now = Instant::now();
        let before = lock(&self.ended).replace(now);
        now.saturating_duration_since(before.map_or(start, |before| before.max(start)))
    }

    /// Queues work.
    ///
    /// # Errors
    /// The work, if the engine has ended. Work that was queued before is dropped unrun.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        self.jobs.send(job).map_err(|refused| refused.0)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn run(loader: Loader, queue: mpsc::Receiver<Job>, progress: &Mutex<Progress>, cancel: &Cancel) {
    serve(loader, queue, progress, cancel);
    // What its frames lay in is of no use to anybody now.
    i2sb::memory::release();
}

fn serve(loader: Loader, queue: mpsc::Receiver<Job>, progress: &Mutex<Progress>, cancel: &Cancel) {
    let load = || {
        let mut engine = loader()?;
        engine.warm_up(cancel)?;
        let twin = engine.twin()?;
        Ok((engine, twin))
    };
    let loaded = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| Err(panicked(&*panic)));
    let (engine, twin) = match loaded {
        Ok(engines) => engines,
        Err(error) => return conclude(progress, Progress::Failed(chain(&error))),
    };
    conclude(progress, Progress::Ready(engine.about().clone()));
    let lanes = Lanes { queue: Mutex::new(queue), lost: AtomicBool::new(false), progress };
    std::thread::scope(|scope| {
        if let Some(twin) = twin {
            let second = std::thread::Builder::new().name("i2sb-engine-2".into());
            // Without a second thread the first does all.
            let _ = second.spawn_scoped(scope, || lanes.work(twin));
        }
        lanes.work(engine);
    });
}

/// The queue that an engine and its twin take from.
struct Lanes<'a> {
    queue: Mutex<mpsc::Receiver<Job>>,
    lost: AtomicBool,
    progress: &'a Mutex<Progress>,
}

impl Lanes<'_> {
    /// Until nobody can send any more, or the engine is lost: then what waits is dropped with the queue.
    fn work(&self, mut engine: Box<dyn Engine>) {
        loop {
            let Ok(job) = lock(&self.queue).recv() else { return };
            if self.lost.load(Ordering::Acquire) {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(|| job(engine.as_mut())));
            if !matches!(done, Ok(ControlFlow::Continue(()))) {
                // What a panic or a lost device leaves behind is not to be trusted: whoever asks next
                // loads anew.
                conclude(self.progress, Progress::Failed("the engine failed earlier".into()));
                return self.lost.store(true, Ordering::Release);
            }
        }
    }
}

fn conclude(progress: &Mutex<Progress>, end: Progress) {
    let result = match &end {
        Progress::Ready(about) => Ok(about.clone()),
        Progress::Failed(reason) => Err(reason.clone()),
        Progress::Loading(_) => return,
    };
    let before = std::mem::replace(&mut *lock(progress), end);
    if let Progress::Loading(listeners) = before {
        for listener in listeners {
            listener(result.as_ref().map_err(String::as_str));
        }
    }
}

/// The error for a caught panic.
pub fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    EngineError::Panicked(text.unwrap_or_else(|| "no message".into()))
}

/// An error and all its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Knobs, Picture};
    use super::*;

    /// Longest that a test waits for the engine's thread.
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

    struct Same(About);

    impl Engine for Same {
        fn about(&self) -> &About {
            &self.0
        }
        fn warm_up(&mut self, _: &Cancel) -> Result<(), EngineError> {
            Ok(())
        }
        fn restore(&mut self, picture: &Picture, _: &Knobs, _: &Cancel) -> Result<Picture, EngineError> {
            Ok(picture.clone())
        }
    }

    fn key(model: &str) -> Key {
        Key { model: model.into(), device: String::new(), precision: String::new() }
    }

    fn same() -> Loader {
        Box::new(|| Ok(Box::new(Same(About::default()))))
    }

    fn outcome(worker: &Worker) -> Result<About, String> {
        let (tell, told) = mpsc::channel();
        worker.when_loaded(Box::new(move |result| {
            tell.send(result.cloned().map_err(str::to_owned)).unwrap();
        }));
        told.recv_timeout(LIMIT).unwrap()
    }

    #[test]
    fn equal_keys_share_one_thread_until_the_last_is_gone() {
        let a = Worker::shared(&key("share"), same()).unwrap();
        let b = Worker::shared(&key("share"), Box::new(|| unreachable!("loaded twice"))).unwrap();
        assert!(Arc::ptr_eq(&a, &b));
        outcome(&a).unwrap();
        drop((a, b));
        let c = Worker::shared(&key("share"), Box::new(|| Err(EngineError::Stopped))).unwrap();
        assert!(outcome(&c).is_err());
    }

    /// Tells when it is dropped.
    struct Tell(mpsc::Sender<()>);

    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    /// Has a twin.
    struct Two(Same);

    impl Engine for Two {
        fn about(&self) -> &About {
            self.0.about()
        }
        fn warm_up(&mut self, _: &Cancel) -> Result<(), EngineError> {
            Ok(())
        }
        fn restore(&mut self, picture: &Picture, _: &Knobs, _: &Cancel) -> Result<Picture, EngineError> {
            Ok(picture.clone())
        }
        fn twin(&self) -> Result<Option<Box<dyn Engine>>, EngineError> {
            Ok(Some(Box::new(Same(About::default()))))
        }
    }

    #[test]
    fn a_twin_works_beside_and_both_end_when_one_is_lost() {
        let worker =
            Worker::shared(&key("two"), Box::new(|| Ok(Box::new(Two(Same(About::default())))))).unwrap();
        outcome(&worker).unwrap();
        let (start, barrier) = (Instant::now(), Arc::new(std::sync::Barrier::new(2)));
        let (tell, told) = mpsc::channel();
        for _ in 0..8 {
            let (barrier, tell) = (barrier.clone(), tell.clone());
            let meet = move |_: &mut dyn Engine| {
                barrier.wait(); // nobody passes alone
                tell.send(()).unwrap();
                ControlFlow::Continue(())
            };
            assert!(worker.submit(Box::new(meet)).is_ok());
        }
        (0..8).for_each(|_| told.recv_timeout(LIMIT).unwrap());
        assert!(worker.took(start) <= start.elapsed());
        std::thread::sleep(Duration::from_millis(5));
        assert!(worker.took(start) < start.elapsed(), "time is counted twice");
        assert!(worker.submit(Box::new(|_| ControlFlow::Break(()))).is_ok());
        // Done before the other knows, or dropped.
        let guard = Tell(tell);
        drop(worker.submit(Box::new(move |_| {
            let _keep = &guard;
            ControlFlow::Continue(())
        })));
        told.recv_timeout(LIMIT).unwrap();
        while worker.submit(Box::new(|_| ControlFlow::Continue(()))).is_ok() {
            assert!(start.elapsed() < LIMIT, "the queue of a lost engine is still open");
        }
        assert!(outcome(&worker).is_err());
    }

    #[test]
    fn a_failed_load_is_told_and_not_shared() {
        let a = Worker::shared(&key("fail"), Box::new(|| panic!("no weights"))).unwrap();
        assert!(outcome(&a).unwrap_err().contains("no weights"));
        let b = Worker::shared(&key("fail"), same()).unwrap();
        assert!(outcome(&b).is_ok());
    }

    #[test]
    fn a_panicking_job_ends_the_engine_and_drops_what_waits() {
        let worker = Worker::shared(&key("panic"), same()).unwrap();
        outcome(&worker).unwrap();
        let (tell, told) = mpsc::channel();
        assert!(worker.submit(Box::new(|_| panic!("boom"))).is_ok());
        let guard = Tell(tell);
        drop(worker.submit(Box::new(move |_| {
            let _keep = &guard;
            unreachable!("runs after a panic")
        })));
        told.recv_timeout(LIMIT).unwrap();
        assert!(outcome(&worker).is_err());
    }
}
