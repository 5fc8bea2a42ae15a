//! The background threads of a store on disk.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::store::embedded::engine::Engine;

/// The threads of a store. Dropping this stops them and closes the store.
pub(super) struct BackgroundThreads {
    pub(super) engine: Arc<Engine>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl BackgroundThreads {
    pub(super) fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Arc<Engine>) + Send + 'static,
    ) -> io::Result<()> {
        let engine = Arc::clone(&self.engine);
        self.threads.push(
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&engine))?,
        );
        Ok(())
    }
}

impl Drop for BackgroundThreads {
    fn drop(&mut self) {
        let Some(disk) = &self.engine.disk else {
            return;
        };
        disk.signal.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has reported it.
            let _ = thread.join();
        }
        self.engine.close();
    }
}
