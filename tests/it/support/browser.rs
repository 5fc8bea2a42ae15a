//! A chromedriver and a Chromium for a test that looks at pages.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use thirtyfour::extensions::cdp::ChromeDevTools;
use thirtyfour::prelude::*;

const INSTALL: &str = "these tests drive a real browser: apt-get install chromium chromium-driver";

/// A chromedriver on a free port and one browser, both gone when dropped.
pub struct Browser {
    pub driver: WebDriver,
    process: Process,
    _profile: TempDir,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // The driver is the head of a group of its own: a test that fails leaves no browser behind.
        let _ = Command::new("kill")
            .args(["-KILL", "--", &format!("-{}", self.0.id())])
            .stderr(Stdio::null())
            .status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Browser {
    /// A driver, and the port it took; none where it ended at once.
    fn drive() -> Option<(Process, String)> {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("chromedriver: {e}; {INSTALL}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let process = Process(child);
        let (tell, told) = mpsc::channel();
        // Read to the end: a full pipe would stop the driver.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    let _ = tell.send(port.trim_end_matches('.').to_owned());
                }
            }
        });
        let port = told.recv_timeout(Duration::from_secs(120)).ok()?;
        Some((process, port))
    }

    pub async fn start() -> Browser {
        Browser::with(&[]).await
    }

    /// With more flags.
    pub async fn with(flags: &[&str]) -> Browser {
        // It takes a port that is free for one kind of address, and ends when somebody has the same
        // for the other.
        let (process, port) = (0..5)
            .find_map(|_| Browser::drive())
            .expect("chromedriver to say its port");
        let profile = TempDir::new().unwrap();
        let mut wanted = DesiredCapabilities::chrome();
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1320,1000",
            &format!("--user-data-dir={}", profile.path().display()),
        ]
        .iter()
        .chain(flags)
        {
            wanted.add_arg(flag).unwrap();
        }
        wanted.insert_base_capability(
            "goog:loggingPrefs".to_owned(),
            serde_json::json!({ "browser": "ALL" }),
        );
        let driver = WebDriver::new(&format!("http://127.0.0.1:{port}"), wanted)
            .await
            .unwrap_or_else(|e| panic!("Chromium did not start: {e}; {INSTALL}"));
        Browser {
            driver,
            process,
            _profile: profile,
        }
    }

    /// Unfolds the form of a question, unless it is.
    pub async fn edit(&self) {
        let fold = By::Css(".edit:not([open]) > summary");
        for fold in self.driver.find_all(fold).await.unwrap() {
            fold.click().await.unwrap();
        }
    }

    pub async fn text(&self, css: &str) -> String {
        self.driver
            .find(By::Css(css))
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    pub async fn click(&self, css: &str) {
        let element = self.driver.find(By::Css(css)).await.unwrap();
        element.click().await.unwrap();
    }

    pub async fn js(&self, script: &str) -> serde_json::Value {
        self.driver
            .execute(script, Vec::new())
            .await
            .unwrap()
            .json()
            .clone()
    }

    pub async fn cdp(&self, command: &str, parameters: serde_json::Value) {
        ChromeDevTools::new(self.driver.handle.clone())
            .execute_cdp_with_params(command, parameters)
            .await
            .unwrap();
    }

    pub async fn size(&self, width: u32, height: u32) {
        let metrics = serde_json::json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    pub async fn dark(&self) {
        let features = serde_json::json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.cdp("Emulation.setEmulatedMedia", features).await;
    }

    /// Writes a picture where `COHORTIST_SHOTS` says, to look at.
    pub async fn picture(&self, name: &str) {
        if let Some(directory) = std::env::var_os("COHORTIST_SHOTS") {
            self.driver
                .screenshot(&std::path::Path::new(&directory).join(name))
                .await
                .unwrap();
        }
    }

    /// Nothing was written to the console: no script failed, and the Content-Security-Policy
    /// dropped nothing.
    pub async fn is_quiet(&self) {
        let log = self.driver.handle.clone();
        let said = self.console(log).await;
        assert!(said.is_empty(), "the console says {said:?}");
    }

    pub async fn console(
        &self,
        handle: std::sync::Arc<thirtyfour::session::handle::SessionHandle>,
    ) -> Vec<String> {
        let url = format!(
            "{}session/{}/se/log",
            handle.server_url(),
            handle.session_id()
        );
        let agent = ureq::Agent::new_with_defaults();
        let body = tokio::task::spawn_blocking(move || {
            agent
                .post(&url)
                .header("content-type", "application/json")
                .send(serde_json::json!({ "type": "browser" }).to_string())
                .unwrap()
                .body_mut()
                .read_to_string()
                .unwrap()
        });
        let answer: serde_json::Value = serde_json::from_str(&body.await.unwrap()).unwrap();
        answer["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["message"].to_string())
            .collect()
    }

    pub async fn end(self) {
        self.driver.clone().quit().await.unwrap();
        drop(self.process);
    }
}
