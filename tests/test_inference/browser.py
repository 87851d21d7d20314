"""A headless Chromium, spoken to over its debugging pipe (no network, no driver)."""

import json
import os
import shutil
import subprocess
import time

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser'))), None)


class Browser:
    """One page; collects what goes to its console.

    Args:
        profile: An empty folder.
        size: Width and height in pixels.
    """

    def __init__(self, profile, size=(1200, 800)):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [
            CHROMIUM, '--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe',
            '--no-first-run', f'--user-data-dir={profile}', f'--window-size={size[0]},{size[1]}',
            '--force-device-scale-factor=1', '--host-resolver-rules=MAP * ~NOTFOUND',
        ]  # fmt: skip

        def pipes():
            # Chromium reads commands from 3 and answers on 4.
            a, b = os.dup(to_browser), os.dup(from_browser)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._buffer, self._session = 0, b'', None
        self.console = []
        target = self.send('Target.createTarget', url='about:blank')['targetId']
        self._session = self.send('Target.attachToTarget', targetId=target, flatten=True)[
            'sessionId'
        ]
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.send(f'{domain}.enable')
        self.requests = []

    def send(self, method, **params):
        self._number += 1
        message = dict(id=self._number, method=method, params=params)
        if self._session:
            message['sessionId'] = self._session
        os.write(self._out, json.dumps(message).encode() + b'\0')
        while True:
            while b'\0' not in self._buffer:
                data = os.read(self._in, 1 << 20)
                if not data:
                    raise RuntimeError('the browser ended')
                self._buffer += data
            text, self._buffer = self._buffer.split(b'\0', 1)
            answer = json.loads(text)
            if answer.get('id') == self._number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']
            self._note(answer)

    def _note(self, event):
        method, params = event.get('method'), event.get('params', {})
        if method == 'Runtime.exceptionThrown':
            self.console.append(params['exceptionDetails'])
        elif method == 'Log.entryAdded':
            self.console.append(params['entry'])
        elif method == 'Runtime.consoleAPICalled':
            self.console.append(params)
        elif method == 'Network.requestWillBeSent':
            self.requests.append(params['request']['url'])

    def run(self, expression):
        """The value of a JavaScript expression."""
        result = self.send(
            'Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True
        )
        if 'exceptionDetails' in result:
            raise RuntimeError(result['exceptionDetails'])
        return result['result'].get('value')

    def open(self, path):
        self.send('Page.navigate', url=path.as_uri())
        deadline = time.monotonic() + 60
        while self.run('document.body?.dataset.ready') != 'yes':
            if time.monotonic() > deadline:
                raise RuntimeError(f'the page did not get ready: {self.console}')
            time.sleep(0.05)

    def mouse(self, kind, x, y, **more):
        self.send('Input.dispatchMouseEvent', type=f'mouse{kind}', x=x, y=y, **more)
        # Two frames, so that listeners have run and styles are settled.
        self.run('new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))')

    def drag(self, start, end):
        self.mouse('Moved', *start)
        self.mouse('Pressed', *start, button='left', buttons=1, clickCount=1)
        self.mouse('Moved', *end, button='left', buttons=1)
        self.mouse('Released', *end, button='left', clickCount=1)

    def screenshot(self):
        return self.send('Page.captureScreenshot', format='png')['data']

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
